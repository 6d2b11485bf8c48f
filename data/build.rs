// Tells the linker where the program will find libtorch when it runs.
#[path = "../tch-ext/libtorch.rs"]
mod libtorch;

fn main() {
    libtorch::link();
}
