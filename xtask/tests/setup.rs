//! What `cargo xtask setup` promises, with small stand-ins for the archive, for pip and its wheels.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod libraries;
#[path = "../../files/tests/server/mod.rs"]
mod server;

use std::{
    collections::BTreeSet,
    fs,
    io::{Cursor, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use libraries::{AARCH64, Library, X86_64, dll, elf, import_library, macho};
use object::{Object, ObjectSymbol, read::archive::ArchiveFile};
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
    // The wheel's needs libtorch_cuda.so.
    assert!(home.read("libtorch/lib/libtorch.so").contains("INPUT(-ltorch_cpu)"));
}

#[test]
fn each_platform_gets_its_own_wheels_and_what_is_needed_of_them() {
    let all = ["linux-x86_64", "linux-aarch64", "macos-arm64", "windows-x86_64"];
    for (platform, tag) in all.iter().zip([
        "manylinux_2_28_x86_64",
        "manylinux_2_28_aarch64",
        "macosx_11_0_arm64",
        "win_amd64",
    ]) {
        let home = Home::new();
        write_libtorch(&home.path("own"), "2.10.0");
        home.python_that_downloads(&[("torch.whl", wheel_for(platform, |_| {}))]);
        let mut setup = home.command(NOBODY);
        setup.args(["--platform", platform]).env("LIBTORCH", home.path("own"));
        let output = setup.output().unwrap();
        assert_done(&output);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(&format!("libraries for {platform}")), "{said}");

        let asked = home.read("asked");
        assert!(asked.contains(&format!("--platform={tag}\n")), "{asked}");
        assert_eq!(asked.contains("nvidia-cuda-cupti"), platform.starts_with("linux"), "{asked}");
        for (name, _) in libtorch_for(platform) {
            let needed = !name.contains("python");
            assert_eq!(home.path("libtorch/lib").join(&name).exists(), needed, "{name}");
        }
        assert!(!home.path("libtorch/lib/sleef.lib").exists());
        assert!(String::from_utf8_lossy(&setup.output().unwrap().stdout).contains("nothing to do"));
    }
}

#[test]
fn each_platform_with_an_official_archive_takes_it() {
    for platform in ["linux-x86_64", "macos-arm64", "windows-x86_64"] {
        let home = Home::new();
        let mut setup = home.command(&serve_bytes(&archive_for(platform)));
        assert_done(&setup.args(["--platform", platform]).output().unwrap());
        for (name, _) in libtorch_for(platform) {
            assert!(home.path("libtorch/lib").join(&name).exists(), "{name}");
        }
        for name in ["lib/sleef.lib", "lib/libprotobuf.a", "share"] {
            assert!(!home.path("libtorch").join(name).exists(), "{name}");
        }
    }
}

/// What is wrong with a library, and a word of what setup makes of it.
#[test]
fn refuses_libraries_that_do_not_fit_together() {
    type Fault = (&'static str, &'static str, fn(&mut Library), &'static str);
    let faults: [Fault; 9] = [
        (
            "linux-aarch64",
            "libtorch_cpu.so",
            |library| library.needs.push("libnew.so.1".into()),
            "libtorch_cpu.so needs libnew.so.1, which is not there",
        ),
        (
            "linux-x86_64",
            "libtorch_cpu.so",
            |library| library.looks_in = "/opt/lib".into(),
            "does not look for it in its own folder",
        ),
        ("linux-aarch64", "libc10.so", |library| library.defines.clear(), "do not define c10::"),
        (
            "linux-x86_64",
            "libtorch_cpu.so",
            |library| library.defines.retain(|symbol| !symbol.contains("add_Tensor")),
            "do not define at::_ops::add_Tensor::call",
        ),
        (
            "macos-arm64",
            "libtorch_cpu.dylib",
            |library| library.needs.push("@rpath/libnew.dylib".into()),
            "libtorch_cpu.dylib needs @rpath/libnew.dylib, which is not there",
        ),
        (
            "macos-arm64",
            "libc10.dylib",
            |library| library.needs.push("/opt/homebrew/lib/libomp.dylib".into()),
            "libc10.dylib needs /opt/homebrew/lib/libomp.dylib, which is not there",
        ),
        (
            "macos-arm64",
            "libtorch_cpu.dylib",
            |library| library.name = "/build/libtorch_cpu.dylib".into(),
            "libtorch_cpu.dylib calls itself /build/libtorch_cpu.dylib",
        ),
        (
            "windows-x86_64",
            "torch_cpu.dll",
            |library| library.needs.push("cudart64_13.dll".into()),
            "torch_cpu.dll needs cudart64_13.dll, which is not there",
        ),
        (
            "windows-x86_64",
            "c10.dll",
            |library| library.defines.retain(|symbol| !symbol.contains("SetCPUAllocator")),
            "do not define c10::SetCPUAllocator",
        ),
    ];
    for (platform, file, damage, words) in faults {
        let home = Home::new();
        let wheel = wheel_for(platform, |library| {
            if library.name.ends_with(file) {
                damage(library);
            }
        });
        home.python_that_downloads(&[("torch.whl", wheel)]);
        let output = home.command(NOBODY).args(["--platform", platform]).output().unwrap();
        assert_refused(&output, "what was downloaded is of no use: ");
        assert_refused(&output, words);
        home.assert_nothing_left();
    }
}

#[test]
fn refuses_the_libraries_of_another_platform() {
    for (platform, other) in [("linux-x86_64", "linux-aarch64"), ("linux-aarch64", "linux-x86_64")]
    {
        let home = Home::new();
        home.python_that_downloads(&[("torch.whl", wheel_for(other, |_| {}))]);
        let output = home.command(NOBODY).args(["--platform", platform]).output().unwrap();
        assert_refused(&output, &format!(".so is not for {platform}"));
    }
}

#[test]
fn cuda_is_for_linux_and_a_platform_has_a_name() {
    let home = Home::new();
    for platform in ["macos-arm64", "windows-x86_64"] {
        let output =
            home.command(NOBODY).args(["--cuda", "--platform", platform]).output().unwrap();
        assert_refused(&output, "CUDA for");
    }
    let output = home.command(NOBODY).args(["--platform", "amiga"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("linux-x86_64, linux-aarch64, macos-arm64, windows-x86_64"),
        "{stderr}"
    );
    home.assert_nothing_left();
}

/// `called.txt` is no invention, and no operator is called that setup would not look for: by what the
/// compiler has made of torch-sys's and tch-ext's C++, which `cargo test --workspace` has built before.
#[test]
fn what_setup_looks_for_is_what_our_cpp_calls() {
    let (Some(torch_sys), Some(tch_ext)) =
        (built("torch-sys", "libtch.a"), built("tch-ext", "libtch_ext.a"))
    else {
        eprintln!("tch is not built here, so there is nothing to compare with");
        return;
    };
    let undefined: BTreeSet<String> = [torch_sys, tch_ext].iter().flat_map(undefined).collect();
    for function in
        include_str!("../src/setup/called.txt").lines().filter(|line| line.contains("::"))
    {
        let symbol = symbol(function, "linux-x86_64");
        let start = symbol.strip_suffix('v').unwrap();
        let constant = start.replacen("_ZN", "_ZNK", 1);
        let called = |name: &String| name.starts_with(start) || name.starts_with(&constant);
        assert!(undefined.iter().any(called), "nobody calls {function}");
    }

    let headers = PathBuf::from(std::env::var_os("LIBTORCH").unwrap()).join("include/ATen/ops");
    let mut declared = BTreeSet::new();
    for header in fs::read_dir(headers).unwrap() {
        let text = fs::read_to_string(header.unwrap().path()).unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("struct TORCH_API "));
        declared.extend(names.filter_map(|line| Some(line.strip_suffix(" {")?.to_string())));
    }
    let operators = undefined.iter().filter_map(|name| name.strip_prefix("_ZN2at4_ops"));
    let mut n = 0;
    for operator in operators {
        let digits = operator.find(|c: char| !c.is_ascii_digit()).unwrap();
        let length: usize = operator[..digits].parse().unwrap();
        let name = &operator[digits..][..length];
        assert!(operator[digits + length..].starts_with("4callE"), "{operator}");
        assert!(declared.contains(name), "{name}");
        n += 1;
    }
    assert!(n > 2000, "torch-sys calls thousands of operators, not {n}");
}

/// The newest file of that name that the package's build script has made.
fn built(package: &str, name: &str) -> Option<PathBuf> {
    let build = std::env::current_exe().unwrap().ancestors().nth(2)?.join("build");
    let outputs = fs::read_dir(build)
        .ok()?
        .flatten()
        .filter(|folder| folder.file_name().to_string_lossy().starts_with(&format!("{package}-")));
    let files = outputs.map(|folder| folder.path().join("out").join(name));
    files
        .filter(|file| file.exists())
        .max_by_key(|file| file.metadata().unwrap().modified().unwrap())
}

/// The symbols that a static library takes from elsewhere.
fn undefined(archive: &PathBuf) -> Vec<String> {
    let data = fs::read(archive).unwrap();
    let archive = ArchiveFile::parse(&*data).unwrap();
    let members = archive.members().map(|member| member.unwrap().data(&*data).unwrap());
    let mut names = Vec::new();
    for object in members.map(|member| object::File::parse(member).unwrap()) {
        let missing = object.symbols().filter(|symbol| symbol.is_undefined());
        names.extend(missing.map(|symbol| symbol.name().unwrap().to_string()));
    }
    names
}

/// Really downloads a gigabyte: `cargo test --profile xtask -p xtask --test setup -- --ignored --nocapture`.
#[test]
#[ignore = "downloads 1.2 GB from pip's index and takes minutes"]
fn the_libtorch_of_every_platform_can_be_had_and_is_whole() {
    for platform in ["linux-x86_64", "linux-aarch64", "macos-arm64", "windows-x86_64"] {
        let home = Home::new();
        let mut setup = home.command(NOBODY);
        setup.args(["--platform", platform]).env("PATH", std::env::var_os("PATH").unwrap());
        let output = setup.output().unwrap();
        assert_done(&output);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{said}");
        assert_eq!(said.contains("with MPS"), platform.starts_with("macos"));
    }
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

    /// A python3 whose `-m pip download … --dest FOLDER …` puts the wheels there, and writes down what it was asked.
    fn python_that_downloads(&self, wheels: &[(&str, Vec<u8>)]) {
        fs::create_dir(self.path("index")).unwrap();
        for (name, bytes) in wheels {
            fs::write(self.path("index").join(name), bytes).unwrap();
        }
        self.python(&format!(
            "printf '%s\\n' \"$@\" > {}\nwhile [ \"$1\" != --dest ]; do shift; done; /bin/cp {}/* \"$2\"",
            self.path("asked").display(),
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
    archive_of("linux-x86_64", version)
}

fn archive_for(platform: &str) -> Vec<u8> {
    archive_of(platform, "2.11.0")
}

fn archive_of(platform: &str, version: &str) -> Vec<u8> {
    let mut files = headers("libtorch", version);
    files.push(("libtorch/build-version".into(), format!("{version}+cpu").into()));
    for (name, bytes) in libtorch_for(platform) {
        files.push((format!("libtorch/lib/{name}"), bytes));
    }
    for useless in ["lib/libprotobuf.a", "lib/sleef.lib", "share/cmake/Torch/TorchConfig.cmake"] {
        files.push((format!("libtorch/{useless}"), "of no use".into()));
    }
    zip(&files)
}

fn torch_wheel() -> Vec<u8> {
    wheel_for("linux-x86_64", |_| {})
}

/// A wheel `torch` for a platform, its libraries changed by `damage`; it holds NVIDIA's as well.
fn wheel_for(platform: &str, damage: impl Fn(&mut Library)) -> Vec<u8> {
    let mut files = headers("torch", "2.11.0");
    for (name, bytes) in damaged_libtorch_for(platform, damage) {
        files.push((format!("torch/lib/{name}"), bytes));
    }
    if platform.starts_with("linux") {
        let cudart = Library { name: "libcudart.so.13".into(), ..Library::default() };
        files.push(("nvidia/cu13/lib/libcudart.so.13".into(), elf(&cudart, machine(platform))));
        let cuda = Library {
            name: "libtorch_cuda.so".into(),
            needs: ["libcudnn.so.9", "libtorch_cpu.so", "libc.so.6"].map(String::from).into(),
            looks_in: "$ORIGIN".into(),
            ..Library::default()
        };
        files.push(("torch/lib/libtorch_cuda.so".into(), elf(&cuda, machine(platform))));
    }
    for useless in ["lib/libtorch_python.so", "lib/sleef.lib", "nn/__init__.py"] {
        files.push((format!("torch/{useless}"), "of no use".into()));
    }
    zip(&files)
}

fn headers(folder: &str, version: &str) -> Vec<(String, Vec<u8>)> {
    let operator = "namespace at::_ops {\nstruct TORCH_API add_Tensor {\n};\n}\n";
    vec![
        (format!("{folder}/{VERSION_HEADER}"), version_header(version).into()),
        (format!("{folder}/include/ATen/ops/add_ops.h"), operator.into()),
    ]
}

fn libtorch_for(platform: &str) -> Vec<(String, Vec<u8>)> {
    damaged_libtorch_for(platform, |_| {})
}

/// The files of the folder `lib` with which a program can be linked and run, but for the name of `torch`.
fn damaged_libtorch_for(platform: &str, damage: impl Fn(&mut Library)) -> Vec<(String, Vec<u8>)> {
    let (start, end, system) = match platform {
        "macos-arm64" => ("lib", ".dylib", "/usr/lib/libSystem.B.dylib"),
        "windows-x86_64" => ("", ".dll", "KERNEL32.dll"),
        _ => ("lib", ".so", "libc.so.6"),
    };
    // How a program asks for a file.
    let asked = |file: &str| match platform {
        "macos-arm64" => format!("@rpath/{file}"),
        _ => file.to_string(),
    };
    let functions =
        include_str!("../src/setup/called.txt").lines().chain(["at::_ops::add_Tensor::call"]);
    let (of_c10, of_torch): (Vec<_>, Vec<_>) = functions.partition(|name| name.starts_with("c10"));

    let mut files = Vec::new();
    for (name, needs, functions) in [
        ("c10", vec![], of_c10),
        ("torch_cpu", vec!["c10"], of_torch),
        ("torch", vec!["torch_cpu"], vec!["nothing_of_use"]),
    ] {
        let needs = needs.iter().map(|need| asked(&format!("{start}{need}{end}")));
        let file = format!("{start}{name}{end}");
        let mut library = Library {
            name: asked(&file),
            needs: needs.chain([system.to_string()]).collect(),
            looks_in: if platform == "macos-arm64" {
                "@loader_path"
            } else {
                "$ORIGIN/../x:$ORIGIN"
            }
            .into(),
            defines: functions.iter().map(|name| symbol(name, platform)).collect(),
        };
        damage(&mut library);
        let mut bytes = match platform {
            "macos-arm64" => macho(&library),
            "windows-x86_64" => dll(&library),
            _ => elf(&library, machine(platform)),
        };
        bytes.extend(b"machine code");
        files.push((file, bytes));
        if platform == "windows-x86_64" {
            files.push((format!("{name}.lib"), import_library(&library)));
        }
    }
    files
}

fn machine(platform: &str) -> u16 {
    if platform == "linux-aarch64" { AARCH64 } else { X86_64 }
}

/// The symbol of a function without parameters.
fn symbol(function: &str, platform: &str) -> String {
    let scopes: Vec<_> = function.split("::").collect();
    match (&scopes[..], platform) {
        ([function], _) => function.to_string(),
        (_, "windows-x86_64") => {
            let inside_out: Vec<_> = scopes.into_iter().rev().collect();
            format!("?{}@@SAXXZ", inside_out.join("@"))
        }
        _ => {
            let measured = scopes.iter().map(|scope| format!("{}{scope}", scope.len()));
            format!("_ZN{}Ev", measured.collect::<String>())
        }
    }
}

fn cupti_wheel() -> Vec<u8> {
    zip(&[("nvidia/cu13/lib/libcupti.so.13", "machine code")])
}

/// What NVIDIA's wheels have that libtorch_cuda needs.
fn nvidia_wheel() -> Vec<u8> {
    let cudnn = Library { name: "libcudnn.so.9".into(), ..Library::default() };
    zip(&[
        ("nvidia/cudnn/lib/libcudnn.so.9", &elf(&cudnn, X86_64)[..]),
        ("nvidia/cu13/lib/libcudart_static.a", b"of no use"),
        ("nvidia/cu13/include/cuda.h", b"a header"),
        ("nvidia/cu13/include/cccl/cub/cub.cuh", b"a header"),
    ])
}

/// Stored, so that a test can damage a known byte.
fn zip(files: &[(impl AsRef<str>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in files {
        zip.start_file(name.as_ref(), options).unwrap();
        zip.write_all(content.as_ref()).unwrap();
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
