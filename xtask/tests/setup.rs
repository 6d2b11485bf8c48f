//! What `cargo xtask setup` promises, with small stand-ins for the archive, for pip and its wheels.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../../files/tests/server/mod.rs"]
mod server;

use std::{
    fs,
    io::{Cursor, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use server::{Answer, NOBODY, serve};
use tempfile::TempDir;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const VERSION_HEADER: &str = "include/torch/headeronly/version.h";
const MAIN_LIBRARY: &str = "lib/libtorch_cpu.so";

#[test]
fn takes_the_archive_and_only_what_is_needed_of_it() {
    let home = Home::new();
    assert_done(&home.setup(&serve_bytes(&archive("2.11.0"))));
    home.assert_whole();
    assert_eq!(home.read("libtorch/build-version"), "2.11.0");
    assert!(!home.path("libtorch/share").exists());
    assert!(!home.path("libtorch/lib/libprotobuf.a").exists());
}

#[test]
fn takes_the_wheels_where_the_archive_cannot_be_had() {
    let home = Home::new();
    home.python_that_downloads(&[("torch.whl", torch_wheel()), ("cupti.whl", cupti_wheel())]);
    assert_done(&home.setup(NOBODY));
    home.assert_whole();
    assert!(home.path("libtorch/lib/libcupti.so.13").exists());
    assert!(!home.path("libtorch/lib/libtorch_cuda.so").exists());
}

#[test]
fn with_cuda_all_libraries_lie_together_and_a_libtorch_for_cpus_is_replaced() {
    let home = Home::new();
    write_libtorch(&home.path("libtorch"), "2.11.0");
    home.python_that_downloads(&[("torch.whl", torch_wheel()), ("nvidia.whl", nvidia_wheel())]);
    let setup = || home.command(NOBODY).arg("--cuda").output().unwrap();
    assert_done(&setup());
    home.assert_whole();
    for file in
        ["lib/libtorch_cuda.so", "lib/libcudnn.so.9", "include/cuda.h", "include/cub/cub.cuh"]
    {
        assert!(home.path("libtorch").join(file).exists(), "{file}");
    }
    for file in ["nn", "lib/libtorch_python.so", "lib/libcudart_static.a", "include/cccl"] {
        assert!(!home.path("libtorch").join(file).exists(), "{file}");
    }
    // The second time, and without the flag too, it is what was asked for.
    for output in [setup(), home.setup(NOBODY)] {
        assert_done(&output);
        assert!(String::from_utf8_lossy(&output.stdout).contains("nothing to do"));
    }
}

#[test]
fn with_cuda_a_libtorch_of_ones_own_for_cpus_is_refused() {
    let home = Home::new();
    write_libtorch(&home.path("own"), "2.11.0");
    let mut setup = home.command(NOBODY);
    let output = setup.arg("--cuda").env("LIBTORCH", home.path("own")).output().unwrap();
    assert_refused(&output, "is for CPUs only");
    home.assert_nothing_left();
}

#[test]
fn does_nothing_the_second_time() {
    let home = Home::new();
    assert_done(&home.setup(&serve_bytes(&archive("2.11.0"))));
    let before = fs::metadata(home.path("libtorch/build-version")).unwrap().modified().unwrap();
    // Nothing to get it from any more.
    let output = home.setup(NOBODY);
    assert_done(&output);
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing to do"));
    let after = fs::metadata(home.path("libtorch/build-version")).unwrap().modified().unwrap();
    assert_eq!(before, after);
}

#[test]
fn replaces_another_version() {
    let home = Home::new();
    write_libtorch(&home.path("libtorch"), "2.10.0");
    assert_done(&home.setup(&serve_bytes(&archive("2.11.0"))));
    home.assert_whole();
}

#[test]
fn a_failure_leaves_the_other_version_alone() {
    let home = Home::new();
    write_libtorch(&home.path("libtorch"), "2.10.0");
    assert_refused(&home.setup(NOBODY), "no python3");
    assert!(home.read(&format!("libtorch/{VERSION_HEADER}")).contains("MINOR 10"));
}

#[test]
fn a_killed_setup_is_not_mistaken_for_a_whole_one() {
    let home = Home::new();
    let half = answer(&archive("2.11.0"), |bytes| bytes / 2);
    let mut setup = home.command(&serve(Answer::SendAndStall(half)));
    let mut setup = setup.stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !home.path("libtorch.part").exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "the download does not start");
        sleep(Duration::from_millis(10));
    }
    setup.kill().unwrap();
    setup.wait().unwrap();
    assert!(!home.path("libtorch").exists());

    assert_done(&home.setup(&serve_bytes(&archive("2.11.0"))));
    home.assert_whole();
}

#[test]
fn a_kill_while_unpacking_is_not_mistaken_either() {
    let home = Home::new();
    // What such a run leaves: everything but the last step, the rename.
    write_libtorch(&home.path("libtorch.part/libtorch"), "2.11.0");
    fs::write(home.path("libtorch.part/libtorch/lib/rest-of-the-killed"), "").unwrap();
    assert_done(&home.setup(&serve_bytes(&archive("2.11.0"))));
    home.assert_whole();
    assert!(!home.path("libtorch/lib/rest-of-the-killed").exists());
}

#[test]
fn refuses_an_archive_that_is_cut_off_damaged_or_of_another_version() {
    let whole = archive("2.11.0");
    let cut_off = answer(&whole, |bytes| bytes - 100);
    let mut damaged = whole.clone();
    let library = whole.windows(9).position(|bytes| bytes == b"machine c").unwrap();
    damaged[library] = b'M';
    for bytes in [cut_off, answer(&damaged, |n| n), answer(&archive("2.12.0"), |n| n)] {
        let home = Home::new();
        let output = home.setup(&serve(Answer::Send(bytes)));
        assert_eq!(output.status.code(), Some(1));
        home.assert_nothing_left();
    }
}

#[test]
fn says_what_to_do_without_python() {
    let home = Home::new();
    assert_refused(&home.setup(NOBODY), "there is no python3");
    home.assert_nothing_left();
}

/// What pip or the shell print in each case, and a word of what setup makes of it.
#[test]
fn says_what_to_do_where_pip_fails() {
    for (stderr, expected) in [
        ("/usr/bin/python3: No module named pip", "python3 has no pip: install it"),
        ("pyenv: python3: command not found", "there is no python3"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(x)'\n\
             ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from versions: none)",
            "check the network",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "make room",
        ),
        ("Traceback\nsome new trouble", "it says: some new trouble"),
    ] {
        let home = Home::new();
        home.python(&format!("echo \"{stderr}\" >&2; exit 1"));
        assert_refused(&home.setup(NOBODY), expected);
        home.assert_nothing_left();
    }
}

#[test]
fn a_libtorch_of_ones_own_is_checked_and_not_copied() {
    let home = Home::new();
    let own = home.path("own");
    for (version, expected) in [("2.11.0", Ok("nothing to do")), ("2.12.0", Err("version 2.12.0"))]
    {
        write_libtorch(&own, version);
        let output = home.command(NOBODY).env("LIBTORCH", &own).output().unwrap();
        match expected {
            Ok(_) => assert_done(&output),
            Err(words) => assert_refused(&output, words),
        }
        assert!(!home.path("libtorch").exists());
    }
    let output = home.command(NOBODY).env("LIBTORCH", "/nowhere").output().unwrap();
    assert_refused(&output, "there is no libtorch in /nowhere");
}

/// A folder to set up in, with a `bin` that is all of PATH.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::create_dir(home.path("bin")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, archive: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["setup", "--archive", archive, "--into"]).arg(self.path("libtorch"));
        command.env_remove("LIBTORCH").env("PATH", self.path("bin"));
        command
    }

    fn setup(&self, archive: &str) -> Output {
        self.command(archive).output().unwrap()
    }

    /// A python3 that runs the shell script.
    fn python(&self, script: &str) {
        let path = self.path("bin/python3");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A python3 whose `-m pip download … --dest FOLDER …` puts the wheels there.
    fn python_that_downloads(&self, wheels: &[(&str, Vec<u8>)]) {
        fs::create_dir(self.path("index")).unwrap();
        for (name, bytes) in wheels {
            fs::write(self.path("index").join(name), bytes).unwrap();
        }
        self.python(&format!(
            "while [ \"$1\" != --dest ]; do shift; done; /bin/cp {}/* \"$2\"",
            self.path("index").display()
        ));
    }

    fn assert_whole(&self) {
        assert!(self.path("libtorch").join(MAIN_LIBRARY).exists());
        assert!(self.read(&format!("libtorch/{VERSION_HEADER}")).contains("MINOR 11"));
        assert!(!self.path("libtorch.part").exists());
    }

    fn assert_nothing_left(&self) {
        assert!(!self.path("libtorch").exists());
        assert!(!self.path("libtorch.part").exists());
    }
}

fn assert_done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Exit code 1, and the words in the one line that begins with "error: ".
fn assert_refused(output: &Output, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(errors[0].contains(words), "{stderr}");
    assert!(stderr.trim_end().ends_with(errors[0]), "more follows the sentence: {stderr}");
}

fn version_header(version: &str) -> String {
    let names = ["MAJOR", "MINOR", "PATCH"].iter().zip(version.split('.'));
    names.map(|(name, number)| format!("#define TORCH_VERSION_{name} {number}\n")).collect()
}

fn write_libtorch(folder: &Path, version: &str) {
    for (name, content) in
        [(VERSION_HEADER, version_header(version)), (MAIN_LIBRARY, "machine code".into())]
    {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Like the official one.
fn archive(version: &str) -> Vec<u8> {
    zip(&[
        ("libtorch/build-version", format!("{version}+cpu")),
        (&format!("libtorch/{VERSION_HEADER}"), version_header(version)),
        (&format!("libtorch/{MAIN_LIBRARY}"), "machine code".into()),
        ("libtorch/lib/libprotobuf.a", "of no use".into()),
        ("libtorch/share/cmake/Torch/TorchConfig.cmake", "of no use".into()),
    ])
}

fn torch_wheel() -> Vec<u8> {
    zip(&[
        (&format!("torch/{VERSION_HEADER}"), version_header("2.11.0")),
        (&format!("torch/{MAIN_LIBRARY}"), "machine code".into()),
        ("torch/lib/libtorch_cuda.so", "for GPUs".into()),
        ("torch/lib/libtorch_python.so", "of no use".into()),
        ("torch/nn/__init__.py", "of no use".into()),
    ])
}

fn cupti_wheel() -> Vec<u8> {
    zip(&[("nvidia/cu13/lib/libcupti.so.13", "machine code".into())])
}

fn nvidia_wheel() -> Vec<u8> {
    zip(&[
        ("nvidia/cudnn/lib/libcudnn.so.9", "machine code".into()),
        ("nvidia/cu13/lib/libcudart_static.a", "of no use".into()),
        ("nvidia/cu13/include/cuda.h", "a header".into()),
        ("nvidia/cu13/include/cccl/cub/cub.cuh", "a header".into()),
    ])
}

/// Stored, so that a test can damage a known byte.
fn zip(files: &[(&str, String)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn serve_bytes(content: &[u8]) -> String {
    serve(Answer::Send(answer(content, |length| length)))
}

/// An HTTP answer that promises all of the content and has only its first `sent(length)` bytes.
fn answer(content: &[u8], sent: impl Fn(usize) -> usize) -> Vec<u8> {
    let length = content.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), &content[..sent(length)]].concat()
}
