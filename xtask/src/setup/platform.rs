//! The platforms for which there is a libtorch 2.11.0, and what is different on each.

use std::env::consts::{ARCH, OS};

use anyhow::{Result, bail};
use clap::ValueEnum;
use object::{Architecture, BinaryFormat};

/// pip takes a platform by its very name, and the wheels were built for several: the number is the oldest
/// version of the C library that a wheel runs with. (2014 is an older name of 2.17.)
const MANYLINUX: [&str; 6] = ["_2_28", "_2_27", "_2_25", "_2_18", "_2_17", "2014"];

/// The Python packages that hold libtorch and the two small libraries that it links on Linux.
const TORCH: &str = "torch==2.11.0";
const CUDA_STUBS: [&str; 2] = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

/// What of the wheels' libraries a CPU needs, on any platform; the rest is for GPUs (on Linux, most of it) and for
/// Python.
pub const CPU_LIBRARIES: [&str; 23] = [
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libc10.so",
    "torch/lib/libgomp.so.1",
    "torch/lib/libarm_compute.so",
    "torch/lib/libarm_compute_graph.so",
    "torch/lib/libnvpl_blas_core.so.0",
    "torch/lib/libnvpl_blas_lp64_gomp.so.0",
    "torch/lib/libnvpl_lapack_core.so.0",
    "torch/lib/libnvpl_lapack_lp64_gomp.so.0",
    "nvidia/cu13/lib/libcudart.so.13",
    "nvidia/cu13/lib/libcupti.so.13",
    "torch/lib/libtorch.dylib",
    "torch/lib/libtorch_cpu.dylib",
    "torch/lib/libc10.dylib",
    "torch/lib/libomp.dylib",
    "torch/lib/torch.dll",
    "torch/lib/torch.lib",
    "torch/lib/torch_cpu.dll",
    "torch/lib/torch_cpu.lib",
    "torch/lib/c10.dll",
    "torch/lib/c10.lib",
    "torch/lib/libiomp5md.dll",
    "torch/lib/uv.dll",
];

/// How the names of those libraries begin, in small letters, that are a system's own, so that nobody need bring them
/// along. Of Linux's also those of NVIDIA's driver; of Windows's also those of Visual C++, which come with the
/// compiler that the build needs.
const OF_THE_SYSTEM: [&str; 27] = [
    "libc.so.6",
    "libm.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libcuda.so.1",
    "libnvidia-ml.so.1",
    "/usr/lib/",
    "/system/library/",
    "advapi32.dll",
    "dbghelp.dll",
    "imagehlp.dll",
    "iphlpapi.dll",
    "kernel32.dll",
    "psapi.dll",
    "user32.dll",
    "userenv.dll",
    "wintrust.dll",
    "ws2_32.dll",
    "api-ms-win-",
    "msvcp140",
    "vcruntime140",
];

pub fn is_of_the_system(library: &str) -> bool {
    let library = library.to_lowercase();
    OF_THE_SYSTEM.iter().any(|start| library.starts_with(start))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    #[value(name = "linux-x86_64")]
    LinuxX86_64,
    #[value(name = "linux-aarch64")]
    LinuxAarch64,
    #[value(name = "macos-arm64")]
    MacosArm64,
    #[value(name = "windows-x86_64")]
    WindowsX86_64,
}

use Platform::{LinuxAarch64, LinuxX86_64, MacosArm64, WindowsX86_64};

impl Platform {
    /// The one that this program was built for.
    ///
    /// # Errors
    /// A sentence that says that there is no libtorch for it, and what to do instead.
    pub fn here() -> Result<Platform> {
        let abi = match () {
            _ if cfg!(target_env = "musl") => "musl",
            _ if cfg!(target_env = "gnu") => "gnu",
            _ => "",
        };
        Platform::named(OS, ARCH, abi)
    }

    fn named(os: &str, arch: &str, abi: &str) -> Result<Platform> {
        let (machine, way_out) = match (os, arch, abi) {
            ("linux", _, "musl") => (
                "Linux with the C library musl",
                "use a system with glibc (Debian, Ubuntu, Fedora, …), in a container if need be",
            ),
            ("linux", "x86_64", _) => return Ok(LinuxX86_64),
            ("linux", "aarch64", _) => return Ok(LinuxAarch64),
            ("macos", "aarch64", _) => return Ok(MacosArm64),
            ("windows", "x86_64", "gnu") => (
                "the GNU tools on Windows",
                "use the Rust for Visual C++ (`rustup default stable-x86_64-pc-windows-msvc`)",
            ),
            ("windows", "x86_64", _) => return Ok(WindowsX86_64),
            ("macos", "x86_64", _) => (
                "Macs with an Intel processor (PyTorch 2.2 was the last)",
                "use the dev container or the notebook that README names; or, if this Mac has an Apple processor, \
                 your Rust is the one for Intel's: `rustup default stable-aarch64-apple-darwin`",
            ),
            _ => (
                &*format!("{os} on {arch}"),
                "use the dev container or the notebook that README names, or point LIBTORCH at a libtorch 2.11.0 \
                 that you have built",
            ),
        };
        bail!("there is no libtorch 2.11.0 for {machine}: {way_out}")
    }

    /// As in `--platform`.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().into()
    }

    /// The kind of machine code that its libraries hold.
    pub fn code(self) -> (BinaryFormat, Architecture) {
        match self {
            LinuxX86_64 => (BinaryFormat::Elf, Architecture::X86_64),
            LinuxAarch64 => (BinaryFormat::Elf, Architecture::Aarch64),
            MacosArm64 => (BinaryFormat::MachO, Architecture::Aarch64),
            WindowsX86_64 => (BinaryFormat::Pe, Architecture::X86_64),
        }
    }

    pub fn is_linux(self) -> bool {
        self.code().0 == BinaryFormat::Elf
    }

    /// The official archive for CPUs, where there is one: a third of the wheels' size on Linux.
    pub fn archive(self) -> Option<String> {
        let name = match self {
            LinuxX86_64 => "shared-with-deps-2.11.0%2Bcpu",
            LinuxAarch64 => return None,
            MacosArm64 => "macos-arm64-2.11.0",
            WindowsX86_64 => "win-shared-with-deps-2.11.0%2Bcpu",
        };
        Some(format!("https://download.pytorch.org/libtorch/cpu/libtorch-{name}.zip"))
    }

    /// What pip is asked for when no GPU is wanted, without what those packages require.
    pub fn cpu_wheels(self) -> Vec<&'static str> {
        let stubs = if self.is_linux() { &CUDA_STUBS[..] } else { &[] };
        [&["--no-deps", TORCH], stubs].concat()
    }

    /// The names by which pip knows the platform.
    pub fn tags(self) -> Vec<String> {
        let manylinux =
            |arch| MANYLINUX.map(|version| format!("manylinux{version}_{arch}")).to_vec();
        match self {
            LinuxX86_64 => manylinux("x86_64"),
            LinuxAarch64 => manylinux("aarch64"),
            MacosArm64 => vec!["macosx_11_0_arm64".into()],
            WindowsX86_64 => vec!["win_amd64".into()],
        }
    }

    /// `libtorch_cpu.so`, `libtorch_cpu.dylib` or `torch_cpu.dll` for `torch_cpu`.
    pub fn library(self, name: &str) -> String {
        match self {
            LinuxX86_64 | LinuxAarch64 => format!("lib{name}.so"),
            MacosArm64 => format!("lib{name}.dylib"),
            WindowsX86_64 => format!("{name}.dll"),
        }
    }

    /// Whether a file of that name in a folder `lib` is a library, for the loader or for the linker.
    pub fn is_library(self, name: &str) -> bool {
        match self {
            LinuxX86_64 | LinuxAarch64 => name.contains(".so"),
            MacosArm64 => name.ends_with(".dylib"),
            // Of the .lib files only those that stand for a DLL; the others, hundreds of megabytes, are static.
            WindowsX86_64 => {
                name.ends_with(".dll") || ["c10.lib", "torch.lib", "torch_cpu.lib"].contains(&name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_libtorch_hears_why_and_what_to_do() {
        for (os, arch, abi, words) in [
            ("macos", "x86_64", "", "Intel"),
            ("linux", "x86_64", "musl", "musl"),
            ("linux", "riscv64", "gnu", "linux on riscv64"),
            ("freebsd", "x86_64", "", "freebsd on x86_64"),
            ("windows", "aarch64", "", "windows on aarch64"),
            ("windows", "x86_64", "gnu", "Visual C++"),
        ] {
            let why = Platform::named(os, arch, abi).unwrap_err().to_string();
            assert!(why.contains(words) && why.contains(": use "), "{why}");
        }
        for platform in Platform::value_variants() {
            let name = platform.name().replace("arm64", "aarch64");
            let (os, arch) = name.split_once('-').unwrap();
            assert_eq!(Platform::named(os, arch, "").unwrap(), *platform);
        }
    }
}
