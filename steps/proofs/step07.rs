// Attention by hand and fused: the same results, and what each of them costs.

use super::{Args, Block, CausalSelfAttention, DataLoader, Gpt, attention};
use anyhow::Result;
use lab::{Flags, Log, Table, plot::Plot, record};
use std::time::Instant;
use tch::nn::Module;
use tch::{Device, Kind, Tensor};

const LENGTHS: [i64; 5] = [128, 256, 512, 1024, 2048];
const N_HEAD: i64 = 12; // as in GPT-2, with one sequence in the batch
const HEAD_SIZE: i64 = 64;

pub fn print(model: &Gpt, train: &mut DataLoader, args: &Args, _: &Log) -> Result<()> {
    let costs = measure(&args.lab)?;
    let mut table = Table::new();
    let (idx, targets) = train.next_batch();
    let fused = model.forward(&idx);
    let by_hand = forward_by_hand(model, &idx);
    // Both sum in float32, in another order: a few units of 1e-7.
    table.below("logits, fused against by hand", 1e-5, relative(&fused, &by_hand));
    let gradients = |logits: Tensor| {
        let loss = logits.flatten(0, 1).cross_entropy_for_logits(&targets.flatten(0, 1));
        let parameters = model.vs.trainable_variables();
        let gradients = Tensor::run_backward(&[loss], &parameters, false, false);
        Tensor::cat(&gradients.iter().map(|g| g.flatten(0, -1)).collect::<Vec<_>>(), 0)
    };
    let difference = relative(&gradients(fused), &gradients(by_hand));
    table.below("gradients, fused against by hand", 1e-5, difference);
    let longest = costs.last().expect("five lengths");
    // Forward: scaled scores, masked scores, softmax. Backward: softmax and two gradients.
    let scores = (N_HEAD * longest.t * longest.t * 4) as f64 / 1e6;
    let by_hand = longest.by_hand.mb / scores;
    // How much the fused kernel takes hangs on the processor and the threads.
    table.near("peak by hand at T = 2,048, in tensors of T²", 3.0, by_hand, 0.1).of_the_machine();
    table.below("peak fused, in tensors of T²", 0.5, longest.fused.mb / scores).of_the_machine();
    table.print();
    Ok(())
}

/// The softmax of step06, kept to compare with.
pub fn attention_by_hand(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let (t, hs) = (q.size()[2], q.size()[3]);
    let att = q.matmul(&k.transpose(-2, -1)) / (hs as f64).sqrt();
    let future = Tensor::ones([t, t], (Kind::Bool, q.device())).triu(1);
    let att = att.masked_fill(&future, f64::NEG_INFINITY).softmax(-1, Kind::Float);
    att.matmul(v)
}

/// The whole model, with attention by hand.
fn forward_by_hand(model: &Gpt, idx: &Tensor) -> Tensor {
    let pos = Tensor::arange(idx.size()[1], (Kind::Int64, idx.device()));
    let mut x = model.wte.forward(idx) + model.wpe.forward(&pos);
    for Block { ln_1, attn, ln_2, mlp } in &model.h {
        x = &x + self_attention_by_hand(attn, &ln_1.forward(&x));
        x = &x + mlp.forward(&ln_2.forward(&x));
    }
    model.ln_f.forward(&x).matmul(&model.wte.ws.tr())
}

fn self_attention_by_hand(attn: &CausalSelfAttention, x: &Tensor) -> Tensor {
    let (b, t, c) = x.size3().expect("x is (B, T, C)");
    let heads = |x: &Tensor| x.view([b, t, attn.n_head, c / attn.n_head]).transpose(1, 2);
    let qkv = attn.c_attn.forward(x).chunk(3, -1);
    let y = attention_by_hand(&heads(&qkv[0]), &heads(&qkv[1]), &heads(&qkv[2]));
    attn.c_proj.forward(&y.transpose(1, 2).reshape([b, t, c]))
}

/// How far `a` is from `b`, as a share of `b`'s size.
fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| x.to(Device::Cpu).square().sum(Kind::Double).sqrt().double_value(&[]);
    norm(&(a - b)) / norm(b)
}

struct Cost {
    ms: f64,
    mb: f64,
}

struct Costs {
    t: i64,
    by_hand: Cost,
    fused: Cost,
}

/// Time and peak memory of both, forward and backward, at each length.
fn measure(flags: &Flags) -> Result<Vec<Costs>> {
    println!("attention alone, forward and backward, {N_HEAD} heads of {HEAD_SIZE}:");
    println!("{:>12}{:>24}{:>24}", "T", "by hand", "fused");
    let mut costs = Vec::new();
    for t in LENGTHS {
        let by_hand = cost(attention_by_hand, t, flags.device)?;
        let fused = cost(attention, t, flags.device)?;
        println!(
            "{t:>12}{:>12} ms {:>5} MB{:>12} ms {:>5} MB",
            record::masked(&format!("by_hand_ms@{t}"), format!("{:.2}", by_hand.ms)),
            record::masked(&format!("by_hand_mb@{t}"), format!("{:.0}", by_hand.mb)),
            record::masked(&format!("fused_ms@{t}"), format!("{:.2}", fused.ms)),
            record::masked(&format!("fused_mb@{t}"), format!("{:.0}", fused.mb)),
        );
        costs.push(Costs { t, by_hand, fused });
    }
    println!();
    if !flags.no_plot {
        let out = flags.out()?;
        draw(&costs, |cost| cost.mb, "MB at the peak").save(&out.join("memory.svg"))?;
        draw(&costs, |cost| cost.ms, "ms").save(&out.join("time.svg"))?;
    }
    Ok(costs)
}

type Attention = fn(&Tensor, &Tensor, &Tensor) -> Tensor;

/// The least of three times, and the peak beyond what the inputs take.
fn cost(attention: Attention, t: i64, device: Device) -> Result<Cost> {
    let input = || {
        let x = Tensor::randn([1, N_HEAD, t, HEAD_SIZE], (Kind::Float, device));
        x.set_requires_grad(true)
    };
    let (q, k, v) = (input(), input(), input());
    let before = tch_ext::memory::now(device)?;
    let (mut ms, mut peak) = (f64::INFINITY, 0);
    for _ in 0..3 {
        tch_ext::memory::reset_peak(device)?;
        let start = Instant::now();
        let y = attention(&q, &k, &v).sum(Kind::Float);
        let gradients = Tensor::run_backward(&[y], &[&q, &k, &v], false, false);
        // On a GPU nothing has happened yet, until a number is asked for.
        gradients[0].double_value(&[0, 0, 0, 0]);
        ms = ms.min(start.elapsed().as_secs_f64() * 1e3);
        peak = tch_ext::memory::peak(device)?;
    }
    Ok(Cost { ms, mb: (peak - before) as f64 / 1e6 })
}

fn draw(costs: &[Costs], value: fn(&Cost) -> f64, label: &str) -> Plot {
    let mut plot = Plot::new("T, tokens in a sequence", label);
    let curve = |of: fn(&Costs) -> &Cost| {
        costs.iter().map(|costs| (costs.t as f64, value(of(costs)))).collect()
    };
    plot.line("by hand", curve(|costs| &costs.by_hand));
    plot.line("fused", curve(|costs| &costs.fused));
    plot
}
