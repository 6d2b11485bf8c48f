#include "bridge.h"

#include <ATen/autocast_mode.h>

namespace autocast = at::autocast;

namespace {

// Autocast on one kind of device, in this thread; src/autocast.rs has the same two fields.
struct State {
  bool enabled;
  int8_t dtype;  // a c10::ScalarType
};

c10::DeviceType castable(tch_ext::Device device) {
  const c10::DeviceType type = tch_ext::checked(device).type();
  TORCH_CHECK(autocast::is_autocast_available(type), "libtorch has no autocast on ", type);
  return type;
}

void set(c10::DeviceType device, State state) {
  const auto dtype = static_cast<c10::ScalarType>(state.dtype);
  // libtorch finds a weight's cached copy by the weight alone. Without this, a weight that was cast
  // to bfloat16 would stay so where float16 is asked for, and the product of the two would fail.
  if (dtype != autocast::get_autocast_dtype(device)) autocast::clear_cache();
  autocast::set_autocast_enabled(device, state.enabled);
  autocast::set_autocast_dtype(device, dtype);
}

}  // namespace

extern "C" tch_ext::Outcome tch_ext_autocast_state(tch_ext::Device where, State* state) {
  return tch_ext::guarded([&] {
    const c10::DeviceType device = castable(where);
    state->enabled = autocast::is_autocast_enabled(device);
    state->dtype = static_cast<int8_t>(autocast::get_autocast_dtype(device));
  });
}

extern "C" tch_ext::Outcome tch_ext_autocast_enter(tch_ext::Device where, State state) {
  return tch_ext::guarded([&] {
    set(castable(where), state);
    autocast::increment_nesting();
  });
}

extern "C" tch_ext::Outcome tch_ext_autocast_exit(tch_ext::Device where, State before) {
  return tch_ext::guarded([&] {
    // Outside of all regions nobody may meet a copy: the optimizer is about to change the weights.
    if (autocast::decrement_nesting() == 0) autocast::clear_cache();
    set(castable(where), before);
  });
}
