use std::marker::PhantomData;
use tch::Tensor;

/// An `at::Tensor`; tch has a name of its own for it.
pub(crate) enum CTensor {}

/// The tensors' pointers, for a [`List`].
pub(crate) fn pointers(tensors: &[Tensor]) -> Vec<*const CTensor> {
    tensors.iter().map(|tensor| tensor.as_ptr().cast()).collect()
}

/// A slice of tensors as C++ takes it.
#[repr(C)]
pub(crate) struct List<'a> {
    tensors: *const *const CTensor,
    count: usize,
    borrowed: PhantomData<&'a [*const CTensor]>,
}

impl<'a> List<'a> {
    pub(crate) fn of(pointers: &'a [*const CTensor]) -> List<'a> {
        List { tensors: pointers.as_ptr(), count: pointers.len(), borrowed: PhantomData }
    }
}
