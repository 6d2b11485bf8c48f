//! Variables that another project, or a slip, left in the environment: the build's guard, setup and doctor
//! answer each with the same sentence, which names the variable and the way out.
#![cfg(target_os = "linux")]

#[path = "../../tch-ext/libtorch.rs"]
mod libtorch;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use tempfile::TempDir;

/// The build script that torch-sys waits for, as cargo compiles it.
static GUARD: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("libtorch-guard/build.rs");
    compile(&source, "libtorch-guard", &[])
});

fn compile(source: &Path, name: &str, options: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "-o"]).arg(&program).arg(source).args(options);
    assert!(rustc.status().unwrap().success());
    program
}

const UNSET: &str = "`unset LIBTORCH` and run `cargo xtask setup`, or `pip install torch==2.11.0`";

#[test]
fn an_empty_libtorch_is_named() {
    let home = Home::new();
    for value in ["", " ", "\t\n", "\"\""] {
        home.all_refuse(&[("LIBTORCH", value)], "LIBTORCH is empty", UNSET);
    }
}

#[test]
fn a_libtorch_that_is_no_whole_path_is_named() {
    let home = Home::new();
    let own = home.libtorch("own", "2.11.0");
    let quoted = "without quotation marks";
    for (value, what, way_out) in [
        ("~/libtorch", "LIBTORCH is ~/libtorch, whose beginning the shell", quoted),
        ("$HOME/libtorch", "LIBTORCH is $HOME/libtorch, whose beginning the shell", quoted),
        ("elsewhere", "LIBTORCH is elsewhere, which does not start at the root", "the whole path"),
        ("own", "LIBTORCH is own, which does not start at the root", &format!("point it at {own}")),
        (&format!(" {own}"), "with spaces or quotation marks", &format!("set it to {own}")),
        (&format!("{own}\n"), "with spaces or quotation marks", &format!("set it to {own}")),
        (&format!("\"{own}\""), "with spaces or quotation marks", &format!("set it to {own}")),
    ] {
        home.all_refuse(&[("LIBTORCH", value)], what, way_out);
    }
}

#[test]
fn a_path_near_a_libtorch_is_put_right() {
    let home = Home::new();
    let own = home.libtorch("own", "2.11.0");
    let torch = home.libtorch("venv/lib/python3.11/site-packages/torch", "2.11.0");
    let pip = home.libtorch("packages/torch", "2.11.0");
    home.file("venv/lib/python3.11/site-packages/torch/__init__.py", "");
    let zip = home.file("libtorch-shared-with-deps-2.11.0+cpu.zip", "");
    let file = home.file("notes", "");
    for (value, what, way_out) in [
        (format!("{own}/lib"), "which lies inside a libtorch", &*own),
        (format!("{own}/lib/"), "which lies inside a libtorch", &own),
        (format!("{own}/lib/libtorch_cpu.so"), "which lies inside a libtorch", &own),
        (format!("{own}/include/torch"), "which lies inside a libtorch", &own),
        (format!("{torch}/__init__.py"), "which lies inside a libtorch", &torch),
        (home.path("packages"), "a folder around a libtorch", &pip),
        (home.path("venv"), "a folder around a libtorch", &torch),
        (zip, "a file and not a folder", "unpack it"),
        (file, "a file and not a folder", "point it at the folder of a libtorch 2.11.0"),
    ] {
        let what = format!("LIBTORCH is {value}, {what}");
        home.all_refuse(&[("LIBTORCH", &value)], &what, way_out);
    }
}

#[test]
fn a_libtorch_that_cannot_be_built_against_is_described() {
    let home = Home::new();
    let older = home.libtorch("older", "2.10.0");
    let pip = home.folder("site-packages/torch");
    home.file("site-packages/torch/lib/libtorch_cpu.so", "");
    home.file("site-packages/torch/version.py", "debug = False\n__version__ = '2.5.1+cu124'\n");
    let nightly = home.libtorch("nightly", "2.11.0");
    home.file("nightly/build-version", "2.11.0.dev20260101+cpu\n");
    let bare = home.folder("bare");
    home.file("bare/lib/libtorch_cpu.so", "");
    home.file("bare/build-version", "2.11.0+cpu\n");
    let mac = home.folder("mac");
    home.file("mac/lib/libtorch_cpu.dylib", "");
    for (value, what) in [
        ("/nowhere", "there is no libtorch in /nowhere".into()),
        ("/a/lib:/b/lib", "there is no libtorch in /a/lib:/b/lib".into()),
        (&older, format!("the libtorch in {older} has version 2.10.0, not 2.11.0")),
        (&pip, format!("the libtorch in {pip} has version 2.5.1, not 2.11.0")),
        (&nightly, format!("the libtorch in {nightly} has version 2.11.0.dev20260101")),
        (&bare, format!("the libtorch in {bare} lacks the headers of version 2.11.0")),
        (&mac, format!("the libtorch in {mac} is for another operating system")),
    ] {
        home.all_refuse(&[("LIBTORCH", value)], &what, "point");
    }
}

/// Each of these turns torch-sys to another libtorch or another way of building.
#[test]
fn the_other_variables_of_torch_sys_are_named() {
    let home = Home::new();
    let own = home.libtorch("own", "2.11.0");
    let other = home.libtorch("other", "2.11.0");
    for (name, value, effect) in [
        ("LIBTORCH_USE_PYTORCH", "1", "asks python3 for another libtorch"),
        ("LIBTORCH_USE_PYTORCH", "0", "with any value asks python3"),
        ("LIBTORCH_USE_PYTORCH", "", "with any value asks python3"),
        ("LIBTORCH_INCLUDE", &other, "names the headers of another libtorch"),
        ("LIBTORCH_INCLUDE", "", "names the headers of another libtorch"),
        // torch-sys adds `include` and `lib` by itself.
        ("LIBTORCH_INCLUDE", &format!("{own}/include"), "names the headers of another libtorch"),
        ("LIBTORCH_LIB", &other, "names the libraries of another libtorch"),
        ("LIBTORCH_LIB", &format!("{own}/lib"), "names the libraries of another libtorch"),
        ("LIBTORCH_STATIC", "1", "asks for static libraries"),
        ("LIBTORCH_STATIC", "", "asks for static libraries"),
        ("LIBTORCH_CXX11_ABI", "0", "asks for another C++ ABI"),
        ("LIBTORCH_CXX11_ABI", "", "asks for another C++ ABI"),
    ] {
        let what = format!("{name} is {value:?}, which");
        let way_out = format!("`unset {name}`");
        for words in [effect, &what] {
            home.all_refuse(&[("LIBTORCH", &own), (name, value)], words, &way_out);
        }
    }
}

#[test]
fn several_variables_are_named_together() {
    let home = Home::new();
    let own = home.libtorch("own", "2.11.0");
    home.all_refuse(
        &[("LIBTORCH", &own), ("LIBTORCH_LIB", "/opt"), ("LIBTORCH_INCLUDE", "/usr")],
        "LIBTORCH_INCLUDE is \"/usr\", which names the headers of another libtorch; LIBTORCH_LIB is \"/opt\"",
        "`unset LIBTORCH_INCLUDE LIBTORCH_LIB`",
    );
}

#[test]
fn flags_for_rustc_that_lead_to_another_libtorch_are_named() {
    let home = Home::new();
    let own = home.libtorch("own", "2.11.0");
    let other = home.libtorch("other", "2.10.0") + "/lib";
    let what = format!("RUSTFLAGS leads to another libtorch, in {other}");
    for flags in [
        format!("-L {other}"),
        format!("-Copt-level=1 -Lnative={other}"),
        format!("-C link-arg=-Wl,-rpath,{other}"),
    ] {
        home.all_refuse(
            &[("LIBTORCH", &own), ("RUSTFLAGS", &flags)],
            &what,
            "take that folder out",
        );
    }
    // As cargo gives them to a build script.
    let encoded = format!("-C\u{1f}link-arg=-L{other}");
    let guard = home.guard(&[("LIBTORCH", &own), ("CARGO_ENCODED_RUSTFLAGS", &encoded)]);
    assert!(guard.contains(&what), "{guard}");
}

/// With stand-ins of a function each: those in the library path return a wrong number, and so does a program
/// that one of them has got into.
#[test]
fn a_program_takes_our_libtorch_and_not_that_of_the_library_path() {
    let home = Home::new();
    let own = home.libtorch("a folder, with ümlauts", "2.11.0");
    let library = |folder: &str, name: &str, code: String, options: &[&str]| {
        let source = home.file("library.c", &code);
        let soname = format!("-Wl,-soname,{name}");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-o", &format!("{folder}/{name}"), &source, &soname]).args(options);
        assert!(cc.status().unwrap().success());
    };
    // The official libtorch_cpu finds its libc10 by a RUNPATH.
    let needs_c10 = ["-lc10", "-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN"];
    for (folder, number) in [(format!("{own}/lib"), 0), (home.folder("foreign"), 1)] {
        library(&folder, "libc10.so", format!("int c10() {{ return {number}; }}"), &[]);
        let code = format!("int c10(); int number() {{ return {number} + 2 * c10(); }}");
        let search = format!("-L{folder}");
        let options = [&needs_c10[..], &[&search]].concat();
        library(&folder, "libtorch_cpu.so", code, &options);
    }

    let build_script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build.rs");
    let build_script = compile(&build_script, "root-build-script", &[]);
    let said = home.run(build_script, &[("LIBTORCH", &own)]).output().unwrap();
    let said = text(&said.stdout);
    let arguments = said.lines().filter_map(|line| line.strip_prefix("cargo::rustc-link-arg="));
    let mut options = vec!["-ltorch_cpu".to_string(), format!("-L{own}/lib")];
    options.extend(arguments.map(|argument| format!("-Clink-arg={argument}")));
    let main = home.file(
        "main.rs",
        "unsafe extern \"C\" { safe fn number() -> i32; } fn main() { std::process::exit(number()) }",
    );
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let program = compile(Path::new(&main), "a-program", &options);
    for path in ["".into(), home.path("foreign")] {
        let status = home.run(&program, &[("LD_LIBRARY_PATH", &path)]).status().unwrap();
        assert_eq!(status.code(), Some(0), "{path}");
    }
}

/// As on Windows, whose programs have no rpath.
#[test]
fn dlls_lie_beside_the_programs_and_follow_their_libtorch() {
    let home = Home::new();
    let programs = home.folder("target/debug");
    let put = |lib: &str| libtorch::put_dlls(home.folder(lib).as_ref(), programs.as_ref()).unwrap();
    home.file("own/lib/torch_cpu.dll", "ours");
    home.file("own/lib/torch_cpu.lib", "for the linker");
    for _ in 0..2 {
        put("own/lib");
        let names: Vec<_> =
            fs::read_dir(&programs).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["torch_cpu.dll"]);
    }
    home.file("other/lib/torch_cpu.dll", "another");
    put("other/lib");
    assert_eq!(fs::read_to_string(home.path("target/debug/torch_cpu.dll")).unwrap(), "another");
    assert_eq!(fs::read_to_string(home.path("own/lib/torch_cpu.dll")).unwrap(), "ours");
}

#[test]
fn what_changes_nothing_passes() {
    let home = Home::new();
    let own = home.libtorch("a folder, with ümlauts", "2.11.0");
    let link = home.path("link");
    std::os::unix::fs::symlink(&own, &link).unwrap();
    for variables in [
        vec![],
        vec![("LIBTORCH_INCLUDE", &*own), ("LIBTORCH_LIB", &own)],
        vec![("LIBTORCH_LIB", &link)],
        vec![("LIBTORCH_STATIC", "0"), ("LIBTORCH_CXX11_ABI", "1")],
        vec![("LIBTORCH_STATIC", "false"), ("LIBTORCH_BYPASS_VERSION_CHECK", "1")],
        vec![("TORCH_CUDA_VERSION", "cu128")],
        vec![("LIBTORCH", &format!("{own}/"))],
        vec![("LIBTORCH", &link)],
        vec![("RUSTFLAGS", "-Ctarget-cpu=native -L /usr/lib -Clink-arg=-fuse-ld=mold")],
        vec![("RUSTFLAGS", &format!("-Clink-arg=-Wl,-rpath,{link}/lib"))],
    ] {
        let variables = [vec![("LIBTORCH", &*own)], variables].concat();
        let guard = home.guard(&variables);
        assert!(!guard.contains("cargo::error"), "{variables:?}: {guard}");
        let setup = home.setup(&variables);
        assert!(text(&setup.stdout).contains("nothing to do"), "{variables:?}: {setup:?}");
        let doctor = home.doctor(&variables);
        assert!(!doctor.contains("!!"), "{variables:?}: {doctor}");
    }
}

/// Or else a build that the variable had spoilt would not be tried again without it.
#[test]
fn the_guard_is_asked_again_when_a_variable_changes() {
    let guard = Home::new().guard(&[("LIBTORCH", "")]);
    for name in ["", "_USE_PYTORCH", "_INCLUDE", "_LIB", "_STATIC", "_CXX11_ABI"] {
        let line = format!("cargo::rerun-if-env-changed=LIBTORCH{name}");
        assert!(guard.lines().any(|said| said == line), "{line}");
    }
}

#[test]
fn doctor_says_that_another_libtorch_in_the_library_path_does_no_harm() {
    let home = Home::new();
    let own = home.libtorch("own", "2.11.0");
    let other = home.libtorch("other", "2.10.0");
    home.file("conda/libc10.so", "");
    let doctor = |path: &str| home.doctor(&[("LIBTORCH", &own), ("LD_LIBRARY_PATH", path)]);
    for folder in [format!("{other}/lib"), home.path("conda")] {
        let said = doctor(&format!("/nowhere::{folder}"));
        let row = said.lines().find(|line| line.contains("LD_LIBRARY_PATH")).expect(&said);
        assert!(row.starts_with("ok") && row.contains(&folder), "{said}");
    }
    for without in [format!("{own}/lib"), "/usr/lib".into(), "".into()] {
        let said = doctor(&without);
        assert!(!said.contains("LD_LIBRARY_PATH"), "{without}: {said}");
    }
}

#[test]
fn doctor_names_another_libtorch_that_is_loaded_before_ours() {
    let home = Home::new();
    let own = home.libtorch("own", "2.11.0");
    // The dynamic linker would say something about a file that it cannot load, and go on.
    let doctor = |list: &str| home.doctor(&[("LIBTORCH", &own), ("LD_PRELOAD", list)]);
    for list in ["/other/lib/libc10.so", "/lib/x.so:/other/lib/libtorch_cpu.so"] {
        let said = doctor(list);
        let row = said.lines().find(|line| line.contains("LD_PRELOAD")).expect(&said);
        assert!(row.starts_with("!!") && row.contains("/other/lib/lib"), "{said}");
        assert!(said.contains("`unset LD_PRELOAD`"), "{said}");
    }
    let said = doctor("/other/libgomp.so.1");
    assert!(said.contains("ok  LD_PRELOAD") && said.contains("/other/libgomp.so.1"), "{said}");
    assert!(!doctor("/other/libjemalloc.so").contains("LD_PRELOAD"));
}

/// A folder with libtorches in it, and the working folder of the programs.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        home.folder("no-programs");
        home
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().into()
    }

    fn folder(&self, name: &str) -> String {
        fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = PathBuf::from(self.path(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self.path(name)
    }

    /// What a build script looks for in a libtorch.
    fn libtorch(&self, name: &str, version: &str) -> String {
        let numbers = ["MAJOR", "MINOR", "PATCH"].iter().zip(version.split('.'));
        let lines =
            numbers.map(|(name, number)| format!("#define TORCH_VERSION_{name} {number}\n"));
        let header = format!("{name}/include/torch/headeronly/version.h");
        self.file(&header, &lines.collect::<String>());
        self.file(&format!("{name}/lib/libtorch_cpu.so"), "machine code");
        self.path(name)
    }

    fn run(&self, program: impl AsRef<Path>, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program.as_ref());
        // Also what the one who runs the tests has set.
        for name in std::env::vars().map(|(name, _)| name) {
            if ["LIBTORCH", "RUSTFLAGS", "LD_"].iter().any(|part| name.contains(part)) {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.0).env("PWD", self.0.path());
        command.envs(variables.iter().copied());
        command
    }

    fn guard(&self, variables: &[(&str, &str)]) -> String {
        text(&self.run(&*GUARD, variables).output().unwrap().stdout)
    }

    /// With nothing to download from or with.
    fn setup(&self, variables: &[(&str, &str)]) -> Output {
        let mut setup = self.run(env!("CARGO_BIN_EXE_xtask"), variables);
        setup.args(["setup", "--archive", "http://127.0.0.1:1/", "--into", &self.path("into")]);
        setup.env("PATH", self.path("no-programs")).output().unwrap()
    }

    /// With a cargo that builds and runs nothing.
    fn doctor(&self, variables: &[(&str, &str)]) -> String {
        let mut doctor = self.run(env!("CARGO_BIN_EXE_xtask"), variables);
        text(&doctor.arg("doctor").env("CARGO", "true").output().unwrap().stdout)
    }

    /// The guard, setup and doctor must each say it, in one sentence and without downloading anything.
    #[track_caller]
    fn all_refuse(&self, variables: &[(&str, &str)], what: &str, way_out: &str) {
        let guard = self.guard(variables);
        let errors: Vec<_> = guard.lines().filter(|line| line.contains("cargo::error=")).collect();
        let [error] = errors[..] else { panic!("{variables:?}: {guard}") };
        assert!(error.contains(what) && error.contains(way_out), "guard, {variables:?}: {error}");

        let setup = self.setup(variables);
        let said = text(&setup.stderr);
        assert_eq!(setup.status.code(), Some(1), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(said.contains(what) && said.contains(way_out), "setup, {variables:?}: {said}");
        assert!(!Path::new(&self.path("into")).exists());

        let said = self.doctor(variables);
        let mut lines = said.lines().skip_while(|line| !line.starts_with("!!"));
        let (bad, advice) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        assert!(bad.contains(what) && advice.contains(way_out), "doctor, {variables:?}: {said}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
