use std::{env, path::Path};

mod libtorch;

fn main() {
    let Some(libtorch) = libtorch::link() else {
        return;
    };
    println!("cargo::rustc-env=LIBTORCH_VERSION={}", libtorch::VERSION);
    let headers = libtorch.join("include");
    let api = headers.join("torch/csrc/api/include"); // <torch/types.h>
    println!("cargo::rerun-if-changed=cpp");
    let mut build = cc::Build::new();
    if has_nccl(&libtorch) {
        build.define("USE_C10D_NCCL", None);
        println!("cargo::rustc-link-lib=torch_cuda");
    }
    build
        .cpp(true)
        .std("c++17")
        .include("cpp") // <gloo/…>, see cpp/gloo/context.h
        .include(&headers)
        .include(&api)
        .define("USE_C10D_GLOO", None)
        // Where the compiler knows this flag, it warns about our code alone and not about libtorch's.
        .flag_if_supported(format!("-isystem{}", headers.display()))
        .flag_if_supported(format!("-isystem{}", api.display()))
        // Debug symbols of torch's headers would take longer than the rest of the build.
        .debug(false)
        .file("cpp/all.cpp")
        .compile("tch_ext");
}

/// Whether GPUs can talk to each other: a libtorch for CUDA, with NCCL's header as `cargo xtask setup --cuda` lays
/// it beside libtorch's.
fn has_nccl(libtorch: &Path) -> bool {
    let header = libtorch.join("include/nccl.h");
    let library = format!("lib/{}torch_cuda{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    header.exists() && libtorch.join(library).exists()
}
