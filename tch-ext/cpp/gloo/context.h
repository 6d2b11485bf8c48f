// Declarations of our own for what libtorch's ProcessGroupGloo.hpp includes of Gloo, whose headers no
// libtorch brings. It holds only pointers to these types, so little more than their names is needed; Gloo's code
// itself is in libtorch_cpu. The other files in these folders are here because that header names them.
#pragma once

#include <chrono>

namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};
namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport
}  // namespace gloo
