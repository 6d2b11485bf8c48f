#[path = "../../tch-ext/libtorch.rs"]
mod libtorch;

fn main() {
    // For its check only: this package has no programs to link.
    libtorch::link();
}
