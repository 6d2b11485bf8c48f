// For the check alone: this package has no programs to link.
#[path = "../../tch-ext/libtorch.rs"]
mod libtorch;

fn main() {
    libtorch::guard();
}
