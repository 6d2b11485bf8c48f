//! Several processes that train one model: libtorch's c10d, which is what `torch.distributed` calls.
//!
//! Every process is a *rank*, numbered from 0 to `world_size` − 1. They find each other through a [`Store`],
//! a small table of texts that one process keeps and all read and write over TCP. Then they form a
//! [`ProcessGroup`], whose functions all ranks call in the same order; a [`Reducer`] calls some during
//! backward.
//!
//! All of a group's functions wait until this rank's part is done, and fail if another rank dies.

use crate::{
    Error,
    device::Device,
    error::{Outcome, owned_text},
    tensor::{CTensor, List, pointers},
};
use std::{
    ffi::{CString, c_char, c_int},
    ptr::{self, NonNull},
    time::Duration,
};
use tch::Tensor;

enum CStore {}
enum CGroup {}
enum CReducer {}

unsafe extern "C" {
    fn tch_ext_store_host(port: u16, timeout_ms: i64, store: *mut *mut CStore) -> Outcome;
    fn tch_ext_store_connect(
        address: *const c_char,
        port: u16,
        prefix: *const c_char,
        timeout_ms: i64,
        store: *mut *mut CStore,
    ) -> Outcome;
    fn tch_ext_store_free(store: *mut CStore);
    fn tch_ext_store_port(store: *const CStore) -> u16;
    fn tch_ext_store_set(store: *mut CStore, key: *const c_char, value: *const c_char) -> Outcome;
    fn tch_ext_store_get(
        store: *mut CStore,
        key: *const c_char,
        value: *mut *mut c_char,
    ) -> Outcome;
    fn tch_ext_store_has(store: *mut CStore, key: *const c_char, has: *mut bool) -> Outcome;
    fn tch_ext_store_add(store: *mut CStore, key: *const c_char, n: i64, sum: *mut i64) -> Outcome;
    fn tch_ext_group_new(
        store: *const CStore,
        rank: c_int,
        size: c_int,
        device: Device,
        address: *const c_char,
        timeout_ms: i64,
        group: *mut *mut CGroup,
    ) -> Outcome;
    fn tch_ext_group_free(group: *mut CGroup);
    fn tch_ext_broadcast(group: *mut CGroup, tensors: List) -> Outcome;
    fn tch_ext_all_reduce(group: *mut CGroup, tensor: *const CTensor) -> Outcome;
    fn tch_ext_all_gather(
        group: *mut CGroup,
        tensor: *const CTensor,
        all: *mut *mut CTensor,
    ) -> Outcome;
    fn tch_ext_send(group: *mut CGroup, tensor: *const CTensor, to: c_int) -> Outcome;
    fn tch_ext_receive(group: *mut CGroup, tensor: *const CTensor, from: c_int) -> Outcome;
    fn tch_ext_reducer_new(
        group: *mut CGroup,
        params: List,
        reducer: *mut *mut CReducer,
    ) -> Outcome;
    fn tch_ext_reducer_free(reducer: *mut CReducer) -> Outcome;
    fn tch_ext_reducer_prepare(reducer: *mut CReducer) -> Outcome;
}

/// A table of texts that processes share: what PyTorch calls a TCPStore.
pub struct Store(NonNull<CStore>);

// SAFETY: a TCPStore guards its connection with a mutex.
unsafe impl Send for Store {}

impl Store {
    /// Keeps the table in this process, at a port of this machine; at 0, one that is free. It is there as
    /// long as the `Store`.
    ///
    /// # Errors
    /// If the port is taken, or may not be used.
    pub fn host(port: u16) -> Result<Store, Error> {
        // SAFETY: C++ writes one pointer to where it is told.
        made(|store| unsafe { tch_ext_store_host(port, 10_000, store) }).map(Store)
    }

    /// Reaches the table at an address and a port, and waits so long for whoever keeps it. Each key gets
    /// `prefix` and a slash before it, unless that is empty.
    ///
    /// # Errors
    /// If nobody answers within `timeout`. [`get`](Self::get) waits as long.
    pub fn connect(
        address: &str,
        port: u16,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Store, Error> {
        let (address, prefix, ms) = (text(address)?, text(prefix)?, milliseconds(timeout));
        // SAFETY: the texts live through the call; C++ writes one pointer to where it is told.
        made(|store| unsafe {
            tch_ext_store_connect(address.as_ptr(), port, prefix.as_ptr(), ms, store)
        })
        .map(Store)
    }

    /// The port that it is kept at.
    pub fn port(&self) -> u16 {
        // SAFETY: C++ made it, and `drop` alone frees it.
        unsafe { tch_ext_store_port(self.0.as_ptr()) }
    }

    /// Writes a text under a key.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn set(&self, key: &str, value: &str) -> Result<(), Error> {
        let (key, value) = (text(key)?, text(value)?);
        // SAFETY: the store is alive as `self`, the texts live through the call.
        unsafe { tch_ext_store_set(self.0.as_ptr(), key.as_ptr(), value.as_ptr()) }.into_result()
    }

    /// The text under a key; waits until somebody has written it.
    ///
    /// # Errors
    /// If nobody has within the time that [`connect`](Self::connect) was told, or the connection is lost.
    pub fn get(&self, key: &str) -> Result<String, Error> {
        let (key, mut value) = (text(key)?, ptr::null_mut());
        // SAFETY: the store is alive as `self`, the key lives through the call; C++ writes one pointer.
        unsafe { tch_ext_store_get(self.0.as_ptr(), key.as_ptr(), &mut value) }.into_result()?;
        // SAFETY: C++ made this text for us, and we take it once.
        Ok(unsafe { owned_text(value) })
    }

    /// Whether somebody has written under a key.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn has(&self, key: &str) -> Result<bool, Error> {
        let (key, mut has) = (text(key)?, false);
        // SAFETY: the store is alive as `self`, the key lives through the call; C++ writes one bool.
        unsafe { tch_ext_store_has(self.0.as_ptr(), key.as_ptr(), &mut has) }.into_result()?;
        Ok(has)
    }

    /// Adds to the number under a key, which begins at 0, and returns the sum. Nobody comes in between.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn add(&self, key: &str, n: i64) -> Result<i64, Error> {
        let (key, mut sum) = (text(key)?, 0);
        // SAFETY: the store is alive as `self`, the key lives through the call; C++ writes one number.
        unsafe { tch_ext_store_add(self.0.as_ptr(), key.as_ptr(), n, &mut sum) }.into_result()?;
        Ok(sum)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by C++, and freed here alone. (A group that uses it holds it on its side.)
        unsafe { tch_ext_store_free(self.0.as_ptr()) }
    }
}

/// Ranks that compute together: over NCCL between GPUs, where libtorch has it, else over Gloo.
pub struct ProcessGroup {
    group: NonNull<CGroup>,
    rank: usize,
    world_size: usize,
}

impl ProcessGroup {
    /// Joins the group of `world_size` ranks that meet at a store, as its rank `rank`, with tensors on
    /// `device`. Others reach this process at `address`, one of this machine's, an IP number or a name.
    /// `timeout` is how long a function waits for another rank's part.
    ///
    /// # Errors
    /// If the others do not come in time, this machine has no such address, or GPUs are to talk and libtorch
    /// has no NCCL.
    pub fn join(
        store: &Store,
        rank: usize,
        world_size: usize,
        device: tch::Device,
        address: &str,
        timeout: Duration,
    ) -> Result<ProcessGroup, Error> {
        if rank >= world_size {
            return Err(Error::new(format!("there is no rank {rank} among {world_size}")));
        }
        let (address, ms) = (text(address)?, milliseconds(timeout));
        let (c_rank, c_size) = (number(rank)?, number(world_size)?);
        // SAFETY: the store is alive, the text lives through the call; C++ writes one pointer.
        let group = made(|group| unsafe {
            tch_ext_group_new(
                store.0.as_ptr(),
                c_rank,
                c_size,
                device.into(),
                address.as_ptr(),
                ms,
                group,
            )
        })?;
        Ok(ProcessGroup { group, rank, world_size })
    }

    /// Which of the ranks this process is, from 0 on.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn world_size(&self) -> usize {
        self.world_size
    }

    /// Gives all ranks rank 0's values of these tensors, in place, whether they require gradients or not.
    /// Shapes and dtypes must be the same on all ranks.
    ///
    /// # Errors
    /// If a rank dies or does not come.
    pub fn broadcast(&self, tensors: &[Tensor]) -> Result<(), Error> {
        let tensors = pointers(tensors);
        // SAFETY: the group is alive as `self`, the tensors as their slice.
        unsafe { tch_ext_broadcast(self.group.as_ptr(), List::of(&tensors)) }.into_result()
    }

    /// Gives all ranks the sum of their tensors, in place. The same shape and dtype on all ranks, contiguous.
    ///
    /// # Errors
    /// If a rank dies or does not come, or the tensor is of a kind that cannot be sent.
    pub fn all_reduce(&self, tensor: &mut Tensor) -> Result<(), Error> {
        // SAFETY: the group is alive as `self`, the tensor is lent for the call.
        unsafe { tch_ext_all_reduce(self.group.as_ptr(), tensor.as_ptr().cast()) }.into_result()
    }

    /// All ranks' tensors, in the order of the ranks: (…) → (world_size, …). The same shape and dtype on all
    /// ranks, contiguous.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        let mut all = ptr::null_mut();
        // SAFETY: the group is alive as `self`, the tensor is lent for the call; C++ writes one pointer.
        unsafe { tch_ext_all_gather(self.group.as_ptr(), tensor.as_ptr().cast(), &mut all) }
            .into_result()?;
        // SAFETY: C++ made a tensor with `new` that nobody else owns, as tch expects it.
        Ok(unsafe { Tensor::from_ptr(all.cast()) })
    }

    /// Sends a contiguous tensor to another rank, which is to [`receive`](Self::receive) it.
    ///
    /// # Errors
    /// If that rank dies or does not come.
    pub fn send(&self, tensor: &Tensor, to: usize) -> Result<(), Error> {
        let to = number(to)?;
        // SAFETY: the group is alive as `self`, the tensor is lent for the call.
        unsafe { tch_ext_send(self.group.as_ptr(), tensor.as_ptr().cast(), to) }.into_result()
    }

    /// Overwrites a tensor with what another rank sends: the same shape and dtype, contiguous.
    ///
    /// # Errors
    /// If that rank dies or does not come.
    pub fn receive(&self, tensor: &mut Tensor, from: usize) -> Result<(), Error> {
        let from = number(from)?;
        // SAFETY: the group is alive as `self`, the tensor is lent for the call.
        unsafe { tch_ext_receive(self.group.as_ptr(), tensor.as_ptr().cast(), from) }.into_result()
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: made by C++, and freed here alone. (A reducer holds the group on its side.)
        unsafe { tch_ext_group_free(self.group.as_ptr()) }
    }
}

/// Makes the gradients of all ranks their mean: the part of PyTorch's `DistributedDataParallel` that does it.
///
/// Gradients are sent in buckets of 25 MiB, and one of 1 MiB for the parameters that come first in the model, each
/// as soon as backward has made what belongs in it, so that sending and computing overlap. The buckets stay as they are: PyTorch arranges
/// them anew after the first step, which would make the sums of a run that was interrupted others in the last
/// bits.
///
/// Afterwards the gradients are views of the buckets, as with `gradient_as_bucket_view`: let go of them with
/// [`clear_grads`](crate::optim::clear_grads); tch's `zero_grad` wants to detach them, which a view refuses.
///
/// Source: Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training (arXiv 2006.15704).
pub struct Reducer(NonNull<CReducer>);

impl Reducer {
    /// A reducer of parameters that require gradients, which are the same on all ranks and in the same order.
    ///
    /// # Errors
    /// If there are none, or the ranks' shapes differ.
    pub fn new(group: &ProcessGroup, parameters: &[Tensor]) -> Result<Reducer, Error> {
        let parameters = pointers(parameters);
        // SAFETY: the group and the tensors live through the call, and C++ keeps handles of its own;
        // it writes one pointer.
        made(|reducer| unsafe {
            tch_ext_reducer_new(group.group.as_ptr(), List::of(&parameters), reducer)
        })
        .map(Reducer)
    }

    /// The next backward pass leaves the mean of all ranks' gradients, counting what was there before it.
    /// Without this call a pass adds to this rank's own gradients alone.
    ///
    /// # Errors
    /// If the pass before has not made the gradient of every parameter.
    pub fn prepare_for_backward(&self) -> Result<(), Error> {
        // SAFETY: made by C++, and `drop` alone frees it.
        unsafe { tch_ext_reducer_prepare(self.0.as_ptr()) }.into_result()
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: made by C++, and freed here alone. What it throws at its end helps nobody.
        let _ = unsafe { tch_ext_reducer_free(self.0.as_ptr()) }.into_result();
    }
}

/// What C++ has made, by the pointer that it writes.
fn made<T>(make: impl FnOnce(*mut *mut T) -> Outcome) -> Result<NonNull<T>, Error> {
    let mut pointer = ptr::null_mut();
    make(&mut pointer).into_result()?;
    NonNull::new(pointer).ok_or_else(|| Error::new("libtorch made nothing".into()))
}

fn text(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::new(format!("{text:?} has a zero byte in it")))
}

fn number(n: usize) -> Result<c_int, Error> {
    c_int::try_from(n).map_err(|_| Error::new(format!("{n} ranks are too many")))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
