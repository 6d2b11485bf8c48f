#include "bridge.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>

#include <string>
#include <vector>

namespace {

// The tensors of a Rust slice, and the numbers of AdamW; src/optim.rs has the same fields.
struct List {
  const at::Tensor* const* tensors;
  size_t count;
};

struct AdamW {
  double lr, beta1, beta2, weight_decay, eps;
};

std::vector<at::Tensor> tensors(List list, const char* name, size_t count) {
  TORCH_CHECK(
      list.count == count,
      "AdamW needs one tensor for each parameter, but there are ", list.count, " ", name, " for ",
      count, " params");
  std::vector<at::Tensor> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    TORCH_CHECK(
        list.tensors[i]->defined(),
        name, "[", i, "] holds no tensor (a parameter without a gradient belongs in no list)");
    result.push_back(*list.tensors[i]);
  }
  return result;
}

std::string described(const at::Tensor& tensor) {
  return c10::str(tensor.scalar_type(), " ", tensor.sizes(), " on ", tensor.device());
}

bool same_kind(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.device() == b.device();
}

// libtorch's kernel for the CPU checks nothing: it walks through the memory of all tensors as through
// the parameter's. That yields wrong numbers, or reads what belongs to somebody else.
void check(const std::vector<at::Tensor>& list, const char* name, const std::vector<at::Tensor>& params) {
  for (size_t i = 0; i < list.size(); ++i) {
    TORCH_CHECK(
        same_kind(list[i], params[i]) && list[i].sizes() == params[i].sizes(),
        name, "[", i, "] is ", described(list[i]), ", but params[", i, "] is ", described(params[i]),
        ": they must agree");
    TORCH_CHECK(
        list[i].is_contiguous(),
        name, "[", i, "] does not lie in memory in one piece and in order: make it contiguous");
  }
}

void check_params(const std::vector<at::Tensor>& params) {
  for (size_t i = 0; i < params.size(); ++i) {
    TORCH_CHECK(
        same_kind(params[i], params[0]),
        "params[", i, "] is ", described(params[i]), ", but params[0] is ", described(params[0]),
        ": make a call for each dtype and device");
  }
}

void check_steps(const std::vector<at::Tensor>& steps, const at::Device& device) {
  for (size_t i = 0; i < steps.size(); ++i) {
    TORCH_CHECK(
        steps[i].scalar_type() == at::kFloat && steps[i].numel() == 1 && steps[i].device() == device,
        "steps[", i, "] is ", described(steps[i]), ", but must be one Float on ", device);
  }
}

}  // namespace

extern "C" tch_ext::Outcome tch_ext_fused_adamw(
    List params, List grads, List exp_avgs, List exp_avg_sqs, List steps, AdamW adamw) {
  return tch_ext::guarded([&] {
    const size_t count = params.count;
    const auto p = tensors(params, "params", count);
    const auto g = tensors(grads, "grads", count);
    const auto m = tensors(exp_avgs, "exp_avgs", count);
    const auto v = tensors(exp_avg_sqs, "exp_avg_sqs", count);
    const auto t = tensors(steps, "steps", count);
    if (count == 0) return;  // libtorch would not know which device's kernel to call
    check_params(p);
    check(p, "params", p);
    check(g, "grads", p);
    check(m, "exp_avgs", p);
    check(v, "exp_avg_sqs", p);
    check_steps(t, p[0].device());

    at::NoGradGuard no_grad;
    at::_fused_adamw_(
        p, g, m, v, /*max_exp_avg_sqs=*/{}, t, adamw.lr, adamw.beta1, adamw.beta2,
        adamw.weight_decay, adamw.eps, /*amsgrad=*/false, /*maximize=*/false);
  });
}

extern "C" tch_ext::Outcome tch_ext_clear_grads(List params) {
  return tch_ext::guarded([&] {
    for (const auto& param : tensors(params, "params", params.count)) param.mutable_grad().reset();
  });
}
