// Tells the linker where the fuzzers will find libtorch when they run.
#[path = "../../tch-ext/libtorch.rs"]
mod libtorch;

fn main() {
    libtorch::link();
}
