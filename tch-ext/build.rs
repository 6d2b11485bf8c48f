mod libtorch;

fn main() {
    let Some(libtorch) = libtorch::link() else {
        return;
    };
    println!("cargo::rustc-env=LIBTORCH_VERSION={}", libtorch::VERSION);
    let headers = libtorch.join("include");
    println!("cargo::rerun-if-changed=cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(&headers)
        // Where the compiler knows this flag, it warns about our code alone and not about libtorch's.
        .flag_if_supported(format!("-isystem{}", headers.display()))
        // Debug symbols of torch's headers would take longer than the rest of the build.
        .debug(false)
        .file("cpp/all.cpp")
        .compile("tch_ext");
}
