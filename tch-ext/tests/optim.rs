//! The fused step of AdamW: the same numbers as the formula and as tch's optimizer, and no lists that
//! do not belong together.

use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_ext::optim::{AdamW, clear_grads, fused_adamw};

const ADAMW: AdamW = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, eps: 1e-8 };
const STEPS: usize = 5;

/// In each step a parameter of size up to 1 is rounded twice, to 2⁻²⁴ of its size; ten times that is
/// 6e-7. Forgetting the decay or a correction costs 1e-3 and more.
const FLOAT_TOLERANCE: f64 = 1e-6;
/// The same with 2⁻⁵³, which is 1.1e-15, and the rounding of √ and division in the steps of 0.01.
const DOUBLE_TOLERANCE: f64 = 1e-14;

/// What an optimizer keeps. The shapes: a matrix, a vector, a scalar, and one that is longer than the
/// kernel's vectors and no multiple of them.
struct State {
    params: Vec<Tensor>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    steps: Vec<Tensor>,
}

impl State {
    fn new(kind: Kind) -> State {
        let shapes: [&[i64]; 4] = [&[3, 4], &[5], &[], &[7, 149]];
        let params: Vec<_> = shapes.iter().map(|shape| uniform(shape, kind)).collect();
        State {
            exp_avgs: params.iter().map(Tensor::zeros_like).collect(),
            exp_avg_sqs: params.iter().map(Tensor::zeros_like).collect(),
            steps: params.iter().map(|_| Tensor::from(0f32)).collect(),
            params,
        }
    }

    fn gradients(&self) -> Vec<Tensor> {
        self.params.iter().map(|param| uniform(&param.size(), param.kind())).collect()
    }

    fn step(&mut self, grads: &[Tensor]) -> Result<(), tch_ext::Error> {
        let State { params, exp_avgs, exp_avg_sqs, steps } = self;
        fused_adamw(params, grads, exp_avgs, exp_avg_sqs, steps, ADAMW)
    }

    fn count_up(&mut self) {
        for step in &mut self.steps {
            let _ = step.g_add_scalar_(1.0);
        }
    }

    fn copy(&self) -> Vec<Tensor> {
        let State { params, exp_avgs, exp_avg_sqs, steps } = self;
        [params, exp_avgs, exp_avg_sqs, steps].into_iter().flatten().map(Tensor::copy).collect()
    }
}

fn uniform(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::rand(shape, (kind, Device::Cpu)) * 2.0 - 1.0
}

/// AdamW as in algorithm 2 of arXiv 1711.05101, with a constant learning rate, in float64.
fn by_hand(p: &mut Tensor, g: &Tensor, m: &mut Tensor, v: &mut Tensor, step: i32) {
    let AdamW { lr, beta1, beta2, weight_decay, eps } = ADAMW;
    *p = &*p * (1.0 - lr * weight_decay);
    *m = &*m * beta1 + g * (1.0 - beta1);
    *v = &*v * beta2 + g * g * (1.0 - beta2);
    let (m_hat, v_hat) = (&*m / (1.0 - beta1.powi(step)), &*v / (1.0 - beta2.powi(step)));
    *p -= lr * m_hat / (v_hat.sqrt() + eps);
}

fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    let error = (actual.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs().max();
    let error = error.double_value(&[]);
    assert!(error <= tolerance, "{what}: off by {error}");
}

#[test]
fn five_steps_are_those_of_the_formula() {
    for (kind, tolerance) in [(Kind::Float, FLOAT_TOLERANCE), (Kind::Double, DOUBLE_TOLERANCE)] {
        let mut state = State::new(kind);
        let in_double = |list: &[Tensor]| -> Vec<Tensor> {
            list.iter().map(|tensor| tensor.copy().to_kind(Kind::Double)).collect()
        };
        let (mut p, mut m, mut v) =
            (in_double(&state.params), in_double(&state.exp_avgs), in_double(&state.exp_avg_sqs));
        for step in 1..=STEPS {
            let grads = state.gradients();
            state.count_up();
            state.step(&grads).unwrap();
            for (i, g) in in_double(&grads).iter().enumerate() {
                by_hand(&mut p[i], g, &mut m[i], &mut v[i], step as i32);
            }
        }
        for i in 0..p.len() {
            assert_close(&state.params[i], &p[i], tolerance, "parameter");
            assert_close(&state.exp_avgs[i], &m[i], tolerance, "mean");
            assert_close(&state.exp_avg_sqs[i], &v[i], tolerance, "mean square");
        }
    }
}

/// tch's parameters require a gradient; so do ours here, and they stay leaves that do.
#[test]
fn five_steps_are_those_of_tchs_optimizer() {
    let mut state = State::new(Kind::Float);
    let variables = nn::VarStore::new(Device::Cpu);
    let theirs: Vec<Tensor> = (state.params.iter().enumerate())
        .map(|(i, param)| variables.root().var_copy(&i.to_string(), param))
        .collect();
    state.params = state.params.iter().map(|param| param.copy().set_requires_grad(true)).collect();
    let config = nn::AdamW {
        beta1: ADAMW.beta1,
        beta2: ADAMW.beta2,
        wd: ADAMW.weight_decay,
        eps: ADAMW.eps,
        amsgrad: false,
    };
    let mut optimizer = config.build(&variables, ADAMW.lr).unwrap();
    for _ in 0..STEPS {
        let grads = state.gradients();
        // The gradient of Σ p·g by p is g.
        let products = theirs.iter().zip(&grads).map(|(p, g)| (p * g).sum(Kind::Float));
        optimizer.backward_step(&products.sum());
        state.count_up();
        state.step(&grads).unwrap();
    }
    for (ours, theirs) in state.params.iter().zip(&theirs) {
        assert_close(ours, theirs, FLOAT_TOLERANCE, "parameter");
        assert!(ours.requires_grad() && ours.is_leaf());
    }
}

#[test]
fn the_step_is_read_and_not_counted_up() {
    let mut state = State::new(Kind::Float);
    state.count_up();
    let grads = state.gradients();
    state.step(&grads).unwrap();
    assert!(state.steps.iter().all(|step| step.double_value(&[]) == 1.0));
}

#[test]
fn no_parameters_are_fine() {
    fused_adamw(&mut [], &[], &mut [], &mut [], &[], ADAMW).unwrap();
}

type Change = fn(&mut State, &mut Vec<Tensor>);

#[test]
fn lists_that_do_not_belong_together_are_refused_and_change_nothing() {
    let cases: [(Change, &str); 11] = [
        (
            |_, grads| grads.truncate(3),
            "AdamW needs one tensor for each parameter, but there are 3 grads for 4 params",
        ),
        (
            |state, _| state.steps.push(Tensor::from(1f32)),
            "AdamW needs one tensor for each parameter, but there are 5 steps for 4 params",
        ),
        (
            |_, grads| grads[1] = Tensor::new(),
            "grads[1] holds no tensor (a parameter without a gradient belongs in no list)",
        ),
        (
            |_, grads| grads.swap(0, 1),
            "grads[0] is Float [5] on cpu, but params[0] is Float [3, 4] on cpu: they must agree",
        ),
        (
            |_, grads| grads[3] = grads[3].to_kind(Kind::BFloat16),
            "grads[3] is BFloat16 [7, 149] on cpu, but params[3] is Float [7, 149] on cpu: they must agree",
        ),
        (
            |state, _| state.exp_avgs[3] = state.exp_avgs[3].flatten(0, 1),
            "exp_avgs[3] is Float [1043] on cpu, but params[3] is Float [7, 149] on cpu: they must agree",
        ),
        (
            |state, _| state.exp_avg_sqs[2] = state.exp_avg_sqs[2].to_kind(Kind::Double),
            "exp_avg_sqs[2] is Double [] on cpu, but params[2] is Float [] on cpu: they must agree",
        ),
        (
            |_, grads| grads[0] = grads[0].reshape([4, 3]).tr(),
            "grads[0] does not lie in memory in one piece and in order: make it contiguous",
        ),
        (
            |state, _| state.params[3] = state.params[3].repeat([1, 2]).slice(1, 0, None, 2),
            "params[3] does not lie in memory in one piece and in order: make it contiguous",
        ),
        (
            |state, _| state.params[1] = state.params[1].to_kind(Kind::Double),
            "params[1] is Double [5] on cpu, but params[0] is Float [3, 4] on cpu: make a call for each dtype and device",
        ),
        (
            |state, _| state.steps[2] = Tensor::from(1i64),
            "steps[2] is Long [] on cpu, but must be one Float on cpu",
        ),
    ];
    for (change, sentence) in cases {
        let mut state = State::new(Kind::Float);
        let mut grads = state.gradients();
        state.count_up();
        change(&mut state, &mut grads);
        let before = state.copy();
        assert_eq!(state.step(&grads).unwrap_err().to_string(), sentence);
        assert_eq!(state.copy(), before, "{sentence}");
    }
}

/// libtorch's own refusal comes before it changes anything, too.
#[test]
fn parameters_of_whole_numbers_are_refused() {
    let ones = || vec![Tensor::ones([3], (Kind::Int64, Device::Cpu))];
    let mut params = ones();
    let steps = [Tensor::from(1f32)];
    let refused = fused_adamw(&mut params, &ones(), &mut ones(), &mut ones(), &steps, ADAMW);
    let sentence = refused.unwrap_err().to_string();
    assert!(sentence.contains("not implemented for 'Long'"), "{sentence}");
    assert_eq!(params, ones());
}

#[test]
fn gradients_that_are_let_go_are_gone_and_come_anew() {
    let leaf = |shape: &[i64]| uniform(shape, Kind::Float).set_requires_grad(true);
    let params = [leaf(&[3, 4]), leaf(&[5])];
    let backward = || params.iter().for_each(|p| (p * p).sum(Kind::Float).backward());
    backward();
    let first: Vec<Tensor> = params.iter().map(|p| p.grad().copy()).collect();
    clear_grads(&params).unwrap();
    assert!(params.iter().all(|p| !p.grad().defined() && p.requires_grad()));
    clear_grads(&params).unwrap(); // there are none: nothing to do
    backward();
    assert_eq!(params.each_ref().map(Tensor::grad).as_slice(), first); // not twice as much
    let refused = clear_grads(&[Tensor::new()]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "params[0] holds no tensor (a parameter without a gradient belongs in no list)"
    );
}
