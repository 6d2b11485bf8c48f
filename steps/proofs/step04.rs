// Text of many scripts goes in and comes back; with GPT-2's tokens ours are tiktoken's.

use super::{Merge, Tokenizer, show};
use anyhow::Result;
use lab::{Corpus, Table, grouped, record};

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

pub fn print_merge(merge: &Merge, bytes_per_token: f64) {
    let (left, right) = (merge.tokenizer.bytes(merge.pair.0), merge.tokenizer.bytes(merge.pair.1));
    println!(
        "{:>6} | {:>14} + {:<14} | {:>9} times | {} bytes a token",
        merge.id,
        show(left),
        show(right),
        record::exact(&format!("times@{}", merge.id), grouped(merge.times as i64)),
        record::exact(&format!("bytes_per_token@{}", merge.id), format!("{bytes_per_token:.3}")),
    );
}

pub fn print(trained: &Tokenizer, gpt2: &Tokenizer, corpus: &Corpus) -> Result<()> {
    let tiktoken = tiktoken_rs::r50k_base()?;
    let texts = TEXTS.into_iter().chain([("validation text", corpus.val.as_str())]);
    println!("{:16} {:>9} {:>9} {:>9}   round trip   = tiktoken", "", "bytes", "ours", "GPT-2's");
    let vocabularies = [256, trained.tokens.len(), gpt2.tokens.len()];
    let [bytes, ours, theirs] = recorded("in the vocabulary", vocabularies);
    println!("{:16} {bytes:>9} {ours:>9} {theirs:>9}", "in the vocabulary");
    for (name, text) in texts {
        let (ours, theirs) = (trained.encode(text)?, gpt2.encode(text)?);
        let round_trip = trained.decode(&ours) == text && gpt2.decode(&theirs) == text;
        let as_tiktoken = theirs == tiktoken.encode_ordinary(text);
        let verdict = |name: &str, holds| record::exact(name, if holds { "ok" } else { "NO" });
        let [bytes, ours, theirs] = recorded(name, [text.len(), ours.len(), theirs.len()]);
        println!(
            "{name:16} {bytes:>9} {ours:>9} {theirs:>9}   {:10}   {}",
            verdict(&format!("{name}.round_trip"), round_trip),
            verdict(&format!("{name}.as_tiktoken"), as_tiktoken),
        );
    }
    println!();

    let mut table = Table::new();
    let (ours, theirs) = (trained.encode(&corpus.val)?.len(), gpt2.encode(&corpus.val)?.len());
    // `ids` has an entry for each row of bytes, so two tokens that spell the same would count as one.
    table.equal("GPT-2's tokens, all different: 256 + 50,000", 50_256, gpt2.ids.len() as i64);
    table.print();
    if let Some(floor) = corpus.floor() {
        let a_token = |tokens| floor * corpus.chars_per_token(tokens);
        let (a, b) = (a_token(ours), a_token(theirs));
        println!(
            "\nthe floor: {} nats a character, {} a token of ours, {} one of GPT-2's",
            record::measured("floor", format!("{floor:.3}")),
            record::measured("floor_per_token.ours", format!("{a:.3}")),
            record::measured("floor_per_token.gpt2", format!("{b:.3}")),
        );
    }
    Ok(())
}

/// Three counts as they are printed: of bytes, of our tokens and of GPT-2's.
fn recorded(name: &str, counts: [usize; 3]) -> [String; 3] {
    let [bytes, ours, theirs] = counts.map(|count| grouped(count as i64));
    [
        record::exact(&format!("{name}.bytes"), bytes),
        record::exact(&format!("{name}.ours"), ours),
        record::exact(&format!("{name}.gpt2"), theirs),
    ]
}

pub fn bytes_per_token(tokenizer: &Tokenizer, text: &str) -> Result<f64> {
    Ok(text.len() as f64 / tokenizer.encode(text)?.len() as f64)
}
