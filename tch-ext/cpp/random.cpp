#include "bridge.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>

#include <mutex>

namespace {

// `work` on the device's default generator, while nobody else uses it.
template <typename Work>
void with_generator(tch_ext::Device device, Work work) {
  at::Generator generator = at::globalContext().defaultGenerator(tch_ext::checked(device));
  std::lock_guard<std::mutex> lock(generator.mutex());
  work(generator);
}

}  // namespace

extern "C" tch_ext::Outcome tch_ext_random_state(tch_ext::Device device, at::Tensor** state) {
  return tch_ext::guarded([&] {
    with_generator(device, [&](at::Generator& generator) {
      *state = new at::Tensor(generator.get_state());
    });
  });
}

extern "C" tch_ext::Outcome tch_ext_set_random_state(
    tch_ext::Device device, const at::Tensor* state) {
  return tch_ext::guarded([&] {
    // A copy, since libtorch reads a tensor that is a part of another from that one's beginning.
    const at::Tensor whole = state->clone();
    with_generator(device, [&](at::Generator& generator) { generator.set_state(whole); });
  });
}
