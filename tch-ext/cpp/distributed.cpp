#include "bridge.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

namespace {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
using Milliseconds = std::chrono::milliseconds;

// Rust owns it, and gives it back to tch_ext_store_free.
struct Store {
  c10::intrusive_ptr<c10d::Store> store;
  uint16_t port;
};

// src/distributed.rs has the same four.
struct Tensors {
  const at::Tensor* const* tensors;
  size_t count;
};

std::vector<at::Tensor> vector_of(Tensors list) {
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < list.count; ++i) result.push_back(*list.tensors[i]);
  return result;
}

Store* opened(const std::string& host, const c10d::TCPStoreOptions& options, const char* prefix) {
  // c10d writes each failure with its stack to stderr before it throws; the exception says enough.
  constexpr int kFatal = 3;
  FLAGS_caffe2_log_level = kFatal;
  auto tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
  const uint16_t port = tcp->getPort();
  if (*prefix == '\0') return new Store{tcp, port};
  return new Store{c10::make_intrusive<c10d::PrefixStore>(prefix, tcp), port};
}

// Where a device has a way of its own to talk, that one; else Gloo, which sends what is on a CPU.
void add_backends(
    const Group& group, const Store& store, c10::Device device, const char* address, Milliseconds timeout) {
  const int rank = group->getRank(), size = group->getSize();
  if (device.is_cuda()) {
#ifdef USE_C10D_NCCL
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(store.store, rank, size, options);
    group->setBackend(c10::kCUDA, c10d::ProcessGroup::BackendType::NCCL, nccl);
    group->setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
    return;
#else
    TORCH_CHECK(
        size == 1,
        "this program was built against a libtorch without NCCL, by which GPUs talk: use --device cpu, or "
        "`cargo xtask setup --cuda` and build again");
#endif
  }
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
  auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store.store, rank, size, options);
  for (const auto type : {c10::kCPU, device.type()}) {
    group->setBackend(type, c10d::ProcessGroup::BackendType::GLOO, gloo);
  }
  group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
}

// Adds up the gradients of all ranks while backward still makes others, and divides them by the ranks.
struct Reducer {
  std::vector<at::Tensor> params;
  c10d::Reducer reducer;

  // PyTorch's own numbers: 1 MiB of the parameters that come first in the model, then 25 MiB each; the other way
  // round, since backward makes the last ones' gradients first. So little is left to send at its end. The gradients
  // are views of what has been sent, which saves copying it back, and memory.
  Reducer(std::vector<at::Tensor> parameters, const Group& group)
      : params(std::move(parameters)),
        reducer(
            params, buckets(params), group, std::vector<bool>(params.size(), false),
            c10d::kDefaultBucketBytesCap, /*find_unused_parameters=*/false,
            /*gradient_as_bucket_view=*/true, /*param_names=*/{}, c10d::kDefaultFirstBucketBytes,
            /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
            /*bucket_bytes_cap_list=*/{}) {}

  static std::vector<std::vector<size_t>> buckets(const std::vector<at::Tensor>& params) {
    TORCH_CHECK(!params.empty(), "there are no parameters whose gradients could be reduced");
    for (size_t i = 0; i < params.size(); ++i) {
      TORCH_CHECK(params[i].requires_grad(), "params[", i, "] requires no gradient");  // libtorch would crash
    }
    const std::vector<size_t> limits = {
        c10d::kDefaultFirstBucketBytes, static_cast<size_t>(c10d::kDefaultBucketBytesCap)};
    auto buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(
        params, limits, std::vector<bool>(params.size(), false)));
    std::reverse(buckets.begin(), buckets.end());
    return buckets;
  }
};

}  // namespace

extern "C" tch_ext::Outcome tch_ext_store_host(uint16_t port, int64_t timeout_ms, Store** store) {
  return tch_ext::guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;  // 0: one that is free
    options.isServer = true;
    options.waitWorkers = false;
    options.timeout = Milliseconds(timeout_ms);
    *store = opened("localhost", options, "");
  });
}

extern "C" tch_ext::Outcome tch_ext_store_connect(
    const char* address, uint16_t port, const char* prefix, int64_t timeout_ms, Store** store) {
  return tch_ext::guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.waitWorkers = false;
    options.timeout = Milliseconds(timeout_ms);
    *store = opened(address, options, prefix);
  });
}

extern "C" void tch_ext_store_free(Store* store) { delete store; }

extern "C" uint16_t tch_ext_store_port(const Store* store) { return store->port; }

extern "C" tch_ext::Outcome tch_ext_store_set(Store* store, const char* key, const char* value) {
  return tch_ext::guarded([&] { store->store->set(key, std::string(value)); });
}

// The value is given back to tch_ext_free_message.
extern "C" tch_ext::Outcome tch_ext_store_get(Store* store, const char* key, char** value) {
  return tch_ext::guarded([&] { *value = tch_ext::owned(store->store->get_to_str(key).c_str()); });
}

extern "C" tch_ext::Outcome tch_ext_store_has(Store* store, const char* key, bool* has) {
  return tch_ext::guarded([&] { *has = store->store->check({key}); });
}

extern "C" tch_ext::Outcome tch_ext_store_add(Store* store, const char* key, int64_t n, int64_t* sum) {
  return tch_ext::guarded([&] { *sum = store->store->add(key, n); });
}

extern "C" tch_ext::Outcome tch_ext_group_new(
    const Store* store, int rank, int size, tch_ext::Device where, const char* address, int64_t timeout_ms,
    Group** group) {
  return tch_ext::guarded([&] {
    auto made = c10::make_intrusive<c10d::ProcessGroup>(store->store, rank, size);
    add_backends(made, *store, tch_ext::checked(where), address, Milliseconds(timeout_ms));
    *group = new Group(std::move(made));
  });
}

extern "C" void tch_ext_group_free(Group* group) { delete group; }

extern "C" tch_ext::Outcome tch_ext_broadcast(Group* group, Tensors list) {
  return tch_ext::guarded([&] {
    at::NoGradGuard no_grad;
    constexpr size_t kPiece = 250 << 20;  // as PyTorch's DDP
    c10d::broadcast_coalesced(*group, vector_of(list), kPiece, /*rank=*/0);
  });
}

extern "C" tch_ext::Outcome tch_ext_all_reduce(Group* group, const at::Tensor* tensor) {
  return tch_ext::guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> tensors{*tensor};
    (*group)->allreduce(tensors)->wait();
  });
}

extern "C" tch_ext::Outcome tch_ext_all_gather(Group* group, const at::Tensor* tensor, at::Tensor** all) {
  return tch_ext::guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> input{*tensor};
    std::vector<std::vector<at::Tensor>> output(1);
    for (int i = 0; i < (*group)->getSize(); ++i) output[0].push_back(at::empty_like(*tensor));
    (*group)->allgather(output, input)->wait();
    *all = new at::Tensor(at::stack(output[0]));
  });
}

extern "C" tch_ext::Outcome tch_ext_send(Group* group, const at::Tensor* tensor, int to) {
  return tch_ext::guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    (*group)->send(tensors, to, /*tag=*/0)->wait();
  });
}

extern "C" tch_ext::Outcome tch_ext_receive(Group* group, const at::Tensor* tensor, int from) {
  return tch_ext::guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> tensors{*tensor};
    (*group)->recv(tensors, from, /*tag=*/0)->wait();
  });
}

extern "C" tch_ext::Outcome tch_ext_reducer_new(Group* group, Tensors params, Reducer** reducer) {
  return tch_ext::guarded([&] { *reducer = new Reducer(vector_of(params), *group); });
}

extern "C" tch_ext::Outcome tch_ext_reducer_free(Reducer* reducer) {
  return tch_ext::guarded([&] { delete reducer; });
}

extern "C" tch_ext::Outcome tch_ext_reducer_prepare(Reducer* reducer) {
  return tch_ext::guarded([&] { reducer->reducer.prepare_for_backward({}); });
}
