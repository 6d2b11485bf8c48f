// What an exam says, held against what can be known without it.

use super::{Args, EVAL_SEQUENCES, Exam, Gpt, render};
use anyhow::Result;
use lab::{Log, Question, Table, World, fables, record};
use tch::Kind;

const CHANCE: f64 = 0.25;
const QUESTIONS: usize = 100; // of a kind

pub fn print(model: &Gpt, exam: &Exam, world: &World, args: &Args, log: &Log) -> Result<()> {
    let losses = model.evaluate(&exam.val, world)?;
    let val = losses.iter().sum::<f64>() / losses.len() as f64;
    println!(
        "perplexity {} a token; {} bits a character",
        record::measured("perplexity", format!("{:.3}", val.exp())),
        record::measured("bits_per_char", format!("{:.4}", val / log.chars_per_token / 2f64.ln())),
    );
    let plots = fables::plots(fables::VALIDATION, QUESTIONS);
    let words = fables::questions(fables::VALIDATION, QUESTIONS);
    let right =
        |model: &Gpt, questions: &[Question]| model.hellaswag(questions, &exam.tokenizer, world);
    let about_plots = right(model, &plots)?;
    print_kind("endings of other stories", "plots", about_plots, by_sum(model, exam, &plots));
    let about_words = right(model, &words)?;
    print_kind("one word exchanged", "words", about_words, by_sum(model, exam, &words));
    tch::manual_seed(args.lab.seed.into());
    let untrained = Gpt::new(model.config, args.lab.device);
    let guessed = right(&untrained, &plots)?;
    println!();

    // Who guesses is right so often, give or take five standard deviations of so many guesses.
    let five_sigma = 5.0 * (CHANCE * (1.0 - CHANCE) / QUESTIONS as f64).sqrt();
    let five_sigma = (five_sigma * 1e3).round() / 1e3;
    let of_other_data = log.excuse().or(args.data.excuse());
    let mut table = Table::new();
    table.near("loss of the split, and one at a time", one_by_one(model, exam)?, val, 1e-4);
    let share = |right: usize| right as f64 / QUESTIONS as f64;
    let name = "other stories' endings: untrained";
    table.near(name, CHANCE, share(guessed), five_sigma).of_the_machine();
    let name = "other stories' endings: trained";
    table
        .above(name, CHANCE + five_sigma, share(about_plots))
        .of_the_machine()
        .unless(of_other_data);
    table.print();
    Ok(())
}

fn print_kind(kind: &str, name: &str, by_mean: usize, by_sum: usize) {
    println!(
        "{kind}: {} right by the mean, {} by the sum",
        record::accuracy(&format!("{name}_by_mean"), by_mean, QUESTIONS),
        record::accuracy(&format!("{name}_by_sum"), by_sum, QUESTIONS),
    );
}

/// How many questions are answered rightly with the ending that is likeliest as a whole.
fn by_sum(model: &Gpt, exam: &Exam, questions: &[Question]) -> usize {
    let is_right = |question: &&Question| {
        let block_size = model.config.block_size as usize;
        let (tokens, mask) = render(question, &exam.tokenizer, block_size);
        let (sums, _) = model.score(&tokens, &mask);
        sums.argmin(0, false).int64_value(&[]) == question.label as i64
    };
    questions.iter().filter(is_right).count()
}

/// The loss of the split, computed with one sequence at a time and in this process alone.
fn one_by_one(model: &Gpt, exam: &Exam) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let t = exam.val.sequence_length;
    let sequences = EVAL_SEQUENCES.min((exam.val.stream.shards.total() - 1) / t);
    let mut sum = 0.0;
    for i in 0..sequences {
        let (x, y) = exam.val.batch(&exam.val.stream.read(i * t, t + 1)?, 1);
        sum += model.losses(&x, &y).mean(Kind::Float).double_value(&[]);
    }
    Ok(sum / sequences as f64)
}
