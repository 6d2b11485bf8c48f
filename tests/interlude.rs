//! The interlude's engine finds what libtorch's autograd finds, and its program and the variations of it print
//! what the book shows: to the byte, because arithmetic in float64 is the same on all machines.

#![allow(dead_code)] // its `main` is not called here

use serde_json::json;
use std::{env, fs, path::Path, process::Command};

const PROGRAM: &str = "steps/interlude_autograd.rs";
const OUTPUT: &str = "output.txt";
const RECORD: &str = "record.json";

mod interlude {
    use tch::Tensor;

    include!("../steps/interlude_autograd.rs");

    fn close(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() <= tolerance * b.abs().max(1.0)
    }

    /// Numbers in [-1, 1).
    fn draw(rng: &mut lab::Rng, n: usize) -> Vec<f64> {
        (0..n).map(|_| rng.below(1 << 40) as f64 / (1u64 << 39) as f64 - 1.0).collect()
    }

    /// An expression that branches and uses most of its numbers again, in every operator; the last is its value.
    fn expression(tape: &mut Tape, of: &[Num]) -> Vec<Num> {
        let u = tape.mul(of[0], of[1]);
        let sum = tape.add(u, of[2]);
        let bent = tape.tanh(sum);
        let square = tape.mul(bent, bent);
        let ua = tape.mul(u, of[0]);
        let v = tape.sub(square, ua);
        let w = tape.mul(v, bent);
        let twice = tape.add(w, w);
        let nothing = tape.sub(of[1], of[1]);
        let apart = tape.sub(twice, nothing);
        let end = tape.tanh(apart);
        vec![u, sum, bent, square, ua, v, w, twice, nothing, apart, end]
    }

    fn with_libtorch(of: &[Tensor]) -> Vec<Tensor> {
        let u = &of[0] * &of[1];
        let sum = &u + &of[2];
        let bent = sum.tanh();
        let square = &bent * &bent;
        let ua = &u * &of[0];
        let v = &square - &ua;
        let w = &v * &bent;
        let twice = &w + &w;
        let again = &of[1];
        let nothing = &of[1] - again;
        let apart = &twice - &nothing;
        let end = apart.tanh();
        vec![u, sum, bent, square, ua, v, w, twice, nothing, apart, end]
    }

    fn number(tensor: &Tensor) -> f64 {
        assert_eq!(tensor.kind(), tch::Kind::Double);
        tensor.double_value(&[])
    }

    #[test]
    fn values_and_slopes_are_those_of_libtorch() {
        let mut rng = lab::Rng::new(1);
        for _ in 0..200 {
            let values = draw(&mut rng, 3);
            let mut tape = Tape::default();
            let mut nums: Vec<Num> = values.iter().map(|&value| tape.number(value)).collect();
            let made = expression(&mut tape, &nums);
            nums.extend(made);
            let end = *nums.last().unwrap();
            tape.add(end, nums[0]); // stands after the end and has no say in it
            let slopes = tape.backward(end);
            assert_eq!(*slopes.last().unwrap(), 0.0);

            let leaf = |&value: &f64| Tensor::from(value).set_requires_grad(true);
            let mut tensors: Vec<Tensor> = values.iter().map(leaf).collect();
            tensors.extend(with_libtorch(&tensors));
            let end = tensors.last().unwrap();
            let expected = Tensor::run_backward(&[end], &tensors, false, false);
            assert_eq!(expected.len(), nums.len());
            for ((&n, tensor), slope) in nums.iter().zip(&tensors).zip(&expected) {
                let (value, slope) = (number(tensor), number(slope));
                assert!(close(tape.values[n], value, 1e-12), "{n}: {} {value}", tape.values[n]);
                assert!(close(slopes[n], slope, 1e-12), "{n}: {} {slope}", slopes[n]);
            }
        }
    }

    /// Whatever the expression: each operation takes any of the numbers that are there.
    #[test]
    fn so_they_are_for_any_expression() {
        let mut rng = lab::Rng::new(2);
        for _ in 0..200 {
            let mut tape = Tape::default();
            let mut tensors = Vec::new();
            for value in draw(&mut rng, 3) {
                tape.number(value);
                tensors.push(Tensor::from(value).set_requires_grad(true));
            }
            for n in 3..15 {
                let [a, b] = [0, 1].map(|_| rng.below(n) as usize);
                let tensor = match rng.below(4) {
                    0 => (tape.add(a, b), &tensors[a] + &tensors[b]),
                    1 => (tape.sub(a, b), &tensors[a] - &tensors[b]),
                    2 => (tape.mul(a, b), &tensors[a] * &tensors[b]),
                    _ => (tape.tanh(a), tensors[a].tanh()),
                };
                assert_eq!(tensor.0, n as usize);
                tensors.push(tensor.1);
            }
            let (slopes, end) = (tape.backward(14), &tensors[14]);
            end.backward();
            for n in 0..3 {
                let slope = tensors[n].grad();
                let slope = if slope.defined() { number(&slope) } else { 0.0 };
                let largest = slopes.iter().fold(1.0, |most: f64, slope| most.max(slope.abs()));
                assert!((slopes[n] - slope).abs() <= 1e-12 * largest, "{} {slope}", slopes[n]);
            }
            assert!(close(tape.values[14], number(end), 1e-12));
        }
    }

    #[test]
    fn slopes_are_what_a_nudge_says() {
        let mut rng = lab::Rng::new(3);
        let points = [(-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.5, 2.0)];
        for (model, n) in [(line as Model, 2), (network, 6)] {
            for _ in 0..50 {
                let params = draw(&mut rng, n);
                let (_, slopes) = loss(model, &params, &points);
                for i in 0..n {
                    let at = |by: f64| {
                        let mut nudged = params.clone();
                        nudged[i] += by;
                        loss(model, &nudged, &points).0
                    };
                    let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                    // What the third derivative and the rounding leave of the quotient.
                    assert!(close(slopes[i], slope, 1e-8), "{i}: {} {slope}", slopes[i]);
                }
            }
        }
    }

    /// What the chapter's picture shows: step00's second point, from w, b, x and y to the square.
    #[test]
    fn the_picture_is_of_this_tape() {
        let mut tape = Tape::default();
        let [w, b, x, y] = [0.0, 0.0, 2.0, 5.0].map(|value| tape.number(value));
        let guess = line(&mut tape, &[w, b], x);
        let d = tape.sub(guess, y);
        let square = tape.mul(d, d);
        assert_eq!(tape.values, [0.0, 0.0, 2.0, 5.0, 0.0, 0.0, -5.0, 25.0]);
        let slopes = tape.backward(square);
        assert_eq!(slopes, [-20.0, -10.0, 0.0, 10.0, -10.0, -10.0, -10.0, 1.0]);
    }

    /// `cargo test --test interlude -- --ignored --nocapture` says how long a step of step00's line takes.
    #[test]
    #[ignore = "it measures, and promises nothing"]
    fn beside_libtorch() {
        tch::set_num_threads(1); // as many as ours has; two would wait for each other on a busy machine
        let mut output = format!("{:>9} {:>12} {:>12}\n", "points", "ours", "libtorch's");
        let mut values = Vec::new();
        for n in [100, 100_000] {
            let mut rng = lab::Rng::new(4);
            let points: Vec<(f64, f64)> = draw(&mut rng, n).iter().map(|&x| (x, 3.0 * x)).collect();
            let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
            let [x, y] = [x, y].map(|values| Tensor::from_slice(&values).to_kind(tch::Kind::Float));
            let [w, b] = [0, 1].map(|_| Tensor::from(0f32).set_requires_grad(true));
            let ours = best(|| drop(loss(line, &[0.0, 0.0], &points)));
            let theirs = best(|| {
                let loss = (&x * &w + &b - &y).square().mean(tch::Kind::Float);
                Tensor::run_backward(&[loss], &[&w, &b], false, false);
            });
            let (ours, theirs) = (format!("{ours:.2}"), format!("{theirs:.2}"));
            output += &format!("{:>9} {ours:>9} ms {theirs:>9} ms\n", lab::grouped(n as i64));
            values.push((format!("ours_ms@{n}"), ours));
            values.push((format!("libtorchs_ms@{n}"), theirs));
        }
        print!("{output}");
        super::in_the_book("interlude_autograd-beside_libtorch", super::OUTPUT, &output);
        let values = super::record_of(&values);
        super::in_the_book("interlude_autograd-beside_libtorch", super::RECORD, &values);
    }

    /// The least milliseconds that it takes.
    fn best(mut run: impl FnMut()) -> f64 {
        let once = |_| {
            let start = std::time::Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        };
        (0..50).map(once).fold(f64::INFINITY, f64::min)
    }
}

/// What the book has of a run; `RECORD=1 cargo test --test interlude` makes it what comes out now.
fn in_the_book(name: &str, file: &str, now: &str) -> String {
    let path = Path::new("book/recorded").join(name).join(file);
    if env::var_os("RECORD").is_some() {
        fs::write(&path, now).unwrap();
    }
    fs::read_to_string(path).unwrap()
}

/// Values by name, as the book looks them up in a `record.json`.
fn record_of(values: &[(String, String)]) -> String {
    let value = |(name, text): &(String, String)| json!({ "name": name, "text": text });
    let values: Vec<_> = values.iter().map(value).collect();
    let record = serde_json::to_string_pretty(&json!({ "values": values })).unwrap();
    format!("{record}\n")
}

/// The losses that a run prints, under the names that the steps' have: `loss@20`.
fn losses(output: &str) -> Vec<(String, String)> {
    let lines = output.lines().filter_map(|line| line.strip_prefix("step ")?.split_once("| loss "));
    lines.map(|(step, loss)| (format!("loss@{}", step.trim()), loss.into())).collect()
}

/// A run prints what the book shows, and the book's values are those that it prints.
fn is_in_the_book(name: &str, output: &str) {
    assert_eq!(output, in_the_book(name, OUTPUT, output), "{name}");
    let values = losses(output);
    assert_eq!(values.len(), 6, "{output}");
    let record = record_of(&values);
    assert_eq!(record, in_the_book(name, RECORD, &record), "{name}");
}

/// Applies a patch to a copy of the program and compiles it. It needs nothing but the standard library.
fn vary(name: &str, folder: &Path) -> std::process::Output {
    let root = env::current_dir().unwrap();
    fs::create_dir(folder.join("steps")).unwrap();
    fs::copy(PROGRAM, folder.join(PROGRAM)).unwrap();
    let patch = root.join(format!("steps/patches/{name}.patch"));
    let mut git = Command::new("git");
    git.arg("apply").arg(patch).current_dir(folder).env_remove("GIT_DIR");
    git.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap());
    let applied = git.output().unwrap();
    assert!(applied.status.success(), "{name}: {applied:?}");
    let mut rustc = Command::new(env::var("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["--edition", "2024", "-O", PROGRAM, "-o", &varied()]).current_dir(folder);
    rustc.output().unwrap()
}

/// The program that it makes.
fn varied() -> String {
    format!("varied{}", env::consts::EXE_SUFFIX)
}

fn output_of(program: impl AsRef<Path>) -> String {
    let output = Command::new(program.as_ref()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Holds an output to the lines `Shows: …` of a patch.
fn is_shown(name: &str, output: &str) {
    let patch = fs::read_to_string(format!("steps/patches/{name}.patch")).unwrap();
    let shows: Vec<&str> = patch.lines().filter_map(|line| line.strip_prefix("Shows: ")).collect();
    assert!(!shows.is_empty());
    for shown in shows {
        let shown = fancy_regex::Regex::new(shown).unwrap();
        assert!(output.lines().any(|line| shown.is_match(line).unwrap()), "{shown}: {output}");
    }
}

#[test]
fn the_book_shows_what_it_prints() {
    let output = output_of(env!("CARGO_BIN_EXE_interlude_autograd"));
    is_in_the_book("interlude_autograd", &output);
}

#[test]
fn and_what_its_variations_print() {
    for name in ["interlude_autograd-overwrite", "interlude_autograd-pieces"] {
        let folder = tempfile::tempdir().unwrap();
        let compiled = vary(name, folder.path());
        assert!(compiled.status.success(), "{compiled:?}");
        let output = output_of(folder.path().join(varied()));
        is_shown(name, &output);
        is_in_the_book(name, &output);
    }
}

/// The compiler's words change from version to version; what it finds wrong stays.
#[test]
fn two_numbers_cannot_be_pushed_at_once() {
    let name = "interlude_autograd-one_line";
    let folder = tempfile::tempdir().unwrap();
    let compiled = vary(name, folder.path());
    assert!(!compiled.status.success());
    let said = String::from_utf8(compiled.stderr).unwrap();
    is_shown(name, &said);
    is_shown(name, &in_the_book(name, OUTPUT, &said));
}
