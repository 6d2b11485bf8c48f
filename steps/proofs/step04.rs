// Text of many scripts goes in and comes back; with GPT-2's tokens ours are tiktoken's.

use super::Tokenizer;
use anyhow::Result;
use lab::{Corpus, Table, grouped};

/// Written for this page: each script has its own trouble for a tokenizer that thinks in English.
pub const TEXTS: [(&str, &str); 10] = [
    ("English", "It's the fox who'll say: \"We've 3 apples, you'd 1,024.\""),
    ("German", "Der Fuchs fraß süße Trauben; größer als 20 Äpfel waren sie nicht."),
    ("Greek", "Η αλεπού είπε: «καλημέρα», και έφυγε."),
    ("Russian", "Лиса сказала: «Здравствуй!» — и ушла в лес."),
    ("Arabic", "قال الثعلب: صباح الخير، ثم ذهب إلى الغابة."),
    ("Hindi", "लोमड़ी ने कहा: नमस्ते, और वह जंगल चली गई।"),
    ("Chinese", "狐狸说:早上好。然后走进了森林。"),
    ("Japanese", "きつねは「おはよう」と言って、森へ行きました。"),
    ("emoji", "🦊🍇 👩‍👩‍👧‍👦 🇯🇵 e\u{301}\u{200d}!"),
    ("spaces", "  a\t\tb \n\n\n   c\u{a0}\u{3000}d  \r\n"),
];

pub fn print(trained: &Tokenizer, gpt2: &Tokenizer, corpus: &Corpus) -> Result<()> {
    let tiktoken = tiktoken_rs::r50k_base()?;
    let texts = TEXTS.into_iter().chain([("validation text", corpus.val.as_str())]);
    println!("{:16} {:>9} {:>9} {:>9}   round trip   = tiktoken", "", "bytes", "ours", "GPT-2's");
    let vocabularies = [256, trained.tokens.len(), gpt2.tokens.len()];
    let [bytes, ours, theirs] = vocabularies.map(|size| grouped(size as i64));
    println!("{:16} {bytes:>9} {ours:>9} {theirs:>9}", "in the vocabulary");
    for (name, text) in texts {
        let (ours, theirs) = (trained.encode(text)?, gpt2.encode(text)?);
        let round_trip = trained.decode(&ours) == text && gpt2.decode(&theirs) == text;
        println!(
            "{name:16} {:>9} {:>9} {:>9}   {:10}   {}",
            grouped(text.len() as i64),
            grouped(ours.len() as i64),
            grouped(theirs.len() as i64),
            if round_trip { "ok" } else { "NO" },
            if theirs == tiktoken.encode_ordinary(text) { "ok" } else { "NO" },
        );
    }
    println!();

    let mut table = Table::new();
    let (ours, theirs) = (trained.encode(&corpus.val)?.len(), gpt2.encode(&corpus.val)?.len());
    // `ids` has an entry for each row of bytes, so two tokens that spell the same would count as one.
    table.equal("GPT-2's tokens, all different: 256 + 50,000", 50_256, gpt2.ids.len() as i64);
    table.print();
    if let (Some(a), Some(b), Some(c)) =
        (corpus.floor(corpus.val.chars().count()), corpus.floor(ours), corpus.floor(theirs))
    {
        println!(
            "\nthe floor: {a:.3} nats a character, {b:.3} a token of ours, {c:.3} one of GPT-2's"
        );
    }
    Ok(())
}

pub fn bytes_per_token(tokenizer: &Tokenizer, text: &str) -> Result<f64> {
    Ok(text.len() as f64 / tokenizer.encode(text)?.len() as f64)
}
