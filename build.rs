// Tells the linker where the programs will find libtorch when they run.
#[path = "tch-ext/libtorch.rs"]
mod libtorch;

fn main() {
    libtorch::link();
}
