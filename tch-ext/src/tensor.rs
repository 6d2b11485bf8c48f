/// An `at::Tensor`; tch has a name of its own for it.
pub(crate) enum CTensor {}
