//! What the fables promise: the same bytes everywhere, choices found again, a floor that is exact, and questions that
//! only a reader of the story can answer.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use fables::{Question, Rng, Story, TRAINING, VALIDATION};

const MB: usize = 1_000_000;

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Conditional entropy of a character given the one before, in nats, with the text's own counts: the lowest loss that
/// a table of letter pairs can have on it.
fn bigram_entropy(text: &str) -> f64 {
    let mut pairs = vec![[0u32; 128]; 128];
    for pair in text.as_bytes().windows(2) {
        pairs[usize::from(pair[0])][usize::from(pair[1])] += 1;
    }
    let nats = pairs.iter().map(|row| {
        let total: u32 = row.iter().sum();
        let each = row.iter().filter(|&&count| count > 0);
        each.map(|&count| f64::from(count) * (f64::from(total) / f64::from(count)).ln())
            .sum::<f64>()
    });
    nats.sum::<f64>() / (text.len() - 1) as f64
}

#[test]
fn a_seed_tells_the_same_bytes_on_every_machine() {
    let fables = fables::text(TRAINING, MB);
    assert!((MB..MB + 1000).contains(&fables.text.len()));
    assert_eq!(
        fnv1a(&fables.text),
        8_060_983_481_242_023_147,
        "the grammar or the generator has changed"
    );
    assert_ne!(fables::text(VALIDATION, 1000).text, fables.text[..1000]);
}

#[test]
fn a_text_is_its_stories() {
    let fables = fables::text(9, 50_000);
    let mut rng = Rng::new(9);
    let told: Vec<Story> = (0..fables.stories).map(|_| fables::story(&mut rng)).collect();
    let text: String = told.iter().map(|story| story.text.as_str()).collect();
    assert_eq!(text, fables.text);
    assert_eq!(told.iter().map(|story| story.nats).sum::<f64>(), fables.nats);
    assert!(fables::stories(&fables.text).eq(told.iter().map(|story| story.text.as_str())));
}

#[test]
fn stories_decode_to_their_choices_and_nats() {
    let mut rng = Rng::new(4);
    for _ in 0..3000 {
        let story = fables::story(&mut rng);
        assert_eq!(fables::decode(&story.text).unwrap(), story);
        assert_eq!(fables::encode(&story.choices).unwrap(), story);
    }
}

#[test]
fn at_every_choice_no_alternative_begins_with_another() {
    let fables = fables::text(5, MB);
    for story in fables::stories(&fables.text) {
        fables::replay(story, |choice| {
            let open: Vec<&str> = choice
                .alternatives
                .iter()
                .filter(|(weight, _)| *weight > 0)
                .map(|(_, head)| head.as_str())
                .collect();
            for (i, a) in open.iter().enumerate() {
                for b in &open[i + 1..] {
                    assert!(!a.starts_with(b) && !b.starts_with(a), "\"{a}\" and \"{b}\"");
                }
            }
            // What an alternative writes at once decides, whatever follows: the text has it where the choice falls.
            assert!(story[choice.at..].starts_with(&choice.alternatives[choice.taken].1));
        })
        .unwrap();
    }
}

#[test]
fn a_changed_story_is_refused() {
    let mut rng = Rng::new(6);
    let mut changed = 0;
    for _ in 0..300 {
        let story = fables::story(&mut rng);
        let names: BTreeSet<&str> = story
            .text
            .split(|c: char| !c.is_alphabetic())
            .filter(|w| w.len() > 2 && w.as_bytes()[0].is_ascii_uppercase())
            .collect();
        for name in names {
            // The last time that a name which stood before is told, another stands there.
            let Some(at) = story.text.rfind(name).filter(|&at| story.text.find(name) < Some(at))
            else {
                continue;
            };
            let other = if name == "Zed" { "Zoe" } else { "Zed" };
            let text = format!("{}{other}{}", &story.text[..at], &story.text[at + name.len()..]);
            assert!(fables::decode(&text).is_err() && !fables::possible(&text), "{text}");
            changed += 1;
        }
        assert!(fables::decode(&story.text[..story.text.len() - 1]).is_err());
        assert!(fables::possible(&story.text[..rng.below(story.text.len() as i64) as usize]));
        assert!(fables::decode(&format!("{}x", story.text)).is_err());
        assert!(fables::encode(&story.choices[..story.choices.len() - 1]).is_err());
        assert!(fables::encode(&[&story.choices[..], &[0]].concat()).is_err());
    }
    assert!(changed > 300);
    let error = fables::decode("The fox and the moon\n").unwrap_err().to_string();
    assert_eq!(
        error,
        "this is not a fable: from byte 16 on (\"moon\n\") it goes on as no fable can"
    );
}

/// Mean and variance of the cost −ln p of a choice with these weights.
fn cost(weights: &[u32]) -> (f64, f64) {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let open = || weights.iter().filter(|&&w| w > 0).map(|&w| f64::from(w) / total);
    let mean: f64 = open().map(|p| -p * p.ln()).sum();
    let square: f64 = open().map(|p| p * p.ln() * p.ln()).sum();
    (mean, square - mean * mean)
}

#[test]
fn the_floor_is_the_entropy() {
    // What the choices taken did cost, against what choices with these weights cost on average. The difference is a
    // sum of independent errors: within 5 standard deviations but for one seed in a million.
    let fables = fables::text(8, MB);
    let (mut expected, mut variance) = (0.0, 0.0);
    for story in fables::stories(&fables.text) {
        fables::replay(story, |choice| {
            let weights: Vec<u32> = choice.alternatives.iter().map(|(weight, _)| *weight).collect();
            let (mean, var) = cost(&weights);
            expected += mean;
            variance += var;
        })
        .unwrap();
    }
    let sigma = variance.sqrt();
    assert!(
        (fables.nats - expected).abs() < 5.0 * sigma,
        "{} nats, {expected} expected, σ {sigma}",
        fables.nats
    );
    assert!(sigma < 0.01 * expected, "the test could not tell");
    assert_eq!(fables.floor(), fables.nats / fables.text.len() as f64);
}

#[test]
fn choices_are_as_frequent_as_their_weights() {
    // All choices with the same weights are one experiment: chi² over its alternatives.
    let mut taken: BTreeMap<Vec<u32>, Vec<u32>> = BTreeMap::new();
    let fables = fables::text(3, MB);
    for story in fables::stories(&fables.text) {
        fables::replay(story, |choice| {
            let open =
                choice.alternatives.iter().enumerate().filter(|(_, (weight, _))| *weight > 0);
            let rank = open.clone().position(|(i, _)| i == choice.taken).unwrap();
            let weights: Vec<u32> = open.map(|(_, (weight, _))| *weight).collect();
            taken.entry(weights.clone()).or_insert(vec![0; weights.len()])[rank] += 1;
        })
        .unwrap();
    }
    let (mut chi2, mut freedom) = (0.0, 0.0);
    for (weights, counts) in &taken {
        let n: f64 = counts.iter().map(|&c| f64::from(c)).sum();
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let expected = weights.iter().map(|&w| n * f64::from(w) / total);
        // Where fewer than 5 are expected, chi² is not yet the bell curve's square.
        if expected.clone().all(|e| e >= 5.0) {
            chi2 += expected.zip(counts).map(|(e, &c)| (f64::from(c) - e).powi(2) / e).sum::<f64>();
            freedom += weights.len() as f64 - 1.0;
        }
    }
    // chi² has mean `freedom` and variance 2·freedom; 5 standard deviations to either side.
    assert!(freedom > 100.0);
    assert!(
        (chi2 - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(),
        "chi² {chi2} of {freedom} degrees of freedom"
    );
}

#[test]
fn a_bigram_stays_far_above_the_floor() {
    let fables = fables::text(TRAINING, MB);
    let (floor, bigram) = (fables.floor(), bigram_entropy(&fables.text));
    assert!(floor > 0.1 && bigram > 2.0 * floor, "bigram {bigram}, floor {floor}");
}

#[test]
fn the_alphabet_and_the_vocabulary_are_small() {
    let fables = fables::text(TRAINING, MB);
    let letters: BTreeSet<char> = fables.text.chars().collect();
    assert!(
        letters.iter().all(|&c| c.is_ascii_alphabetic() || " \n.,;!?'\"".contains(c)),
        "{letters:?}"
    );
    assert!((40..=60).contains(&letters.len()), "{}", letters.len());
    let validation = fables::text(VALIDATION, MB);
    assert!(
        validation.text.chars().all(|c| letters.contains(&c)),
        "validation has a letter that training lacks"
    );
    let words: BTreeSet<&str> = fables.text.split(|c: char| !c.is_alphabetic()).collect();
    assert!((300..=650).contains(&words.len()), "{} words", words.len());
    for story in fables::stories(&fables.text) {
        assert!((350..800).contains(&story.len()), "{story}");
        assert!(
            !story.contains("  ") && !story.contains(" \n") && !story.contains(" ."),
            "{story}"
        );
        assert!(!["[", "]", "{", "}"].iter().any(|gap| story.contains(gap)), "{story}");
    }
}

#[test]
fn no_story_is_told_twice_nor_known_before_validation() {
    let (training, validation) = (fables::text(TRAINING, MB), fables::text(VALIDATION, MB));
    let known: HashSet<&str> = fables::stories(&training.text).collect();
    assert_eq!(known.len(), training.stories);
    assert!(fables::stories(&validation.text).all(|story| !known.contains(story)));
    // By chance none is: even the likeliest story comes once in e⁵⁰ (10²¹).
    assert!(
        fables::stories(&training.text).all(|story| fables::decode(story).unwrap().nats > 50.0)
    );
}

fn ask() -> Vec<Question> {
    fables::questions(VALIDATION, 1000)
}

#[test]
fn one_ending_is_possible_and_three_are_not() {
    for question in ask() {
        for (i, ending) in question.endings.iter().enumerate() {
            let text = format!("{} {ending}\n", question.ctx);
            assert_eq!(fables::possible(&text), i == question.label, "{text}");
            assert!(ending.ends_with(['.', '"']), "{ending}");
        }
    }
}

#[test]
fn neither_length_nor_letters_nor_position_give_the_answer_away() {
    let questions = ask();
    let pairs = {
        let text = fables::text(TRAINING, MB).text;
        let mut pairs = vec![[1.0f64; 128]; 128];
        text.as_bytes().windows(2).for_each(|p| pairs[usize::from(p[0])][usize::from(p[1])] += 1.0);
        pairs
            .iter()
            .map(|row| row.map(|count| (row.iter().sum::<f64>() / count).ln()))
            .collect::<Vec<_>>()
    };
    let bigram = |ending: &str| {
        let text = format!(" {ending}");
        let nats: f64 =
            text.as_bytes().windows(2).map(|p| pairs[usize::from(p[0])][usize::from(p[1])]).sum();
        nats / ending.len() as f64
    };
    // A guesser picks the ending of the lowest score; a tie is worth its share.
    let right = |score: &dyn Fn(&str) -> f64| -> f64 {
        let points = questions.iter().map(|question| {
            let scores = question.endings.each_ref().map(|ending| score(ending));
            let best = scores.iter().copied().fold(f64::INFINITY, f64::min);
            let tied = scores.iter().filter(|&&s| s == best).count();
            if scores[question.label] == best { 1.0 / tied as f64 } else { 0.0 }
        });
        points.sum::<f64>() / questions.len() as f64
    };
    // Chance is 0.25, with a standard deviation of √(0.25·0.75/1000) = 0.0137 over 1,000 questions: 4.4 of them.
    let guessers = [
        ("the shortest", right(&|ending| ending.len() as f64)),
        ("the longest", right(&|ending| -(ending.len() as f64))),
        ("letter pairs", right(&bigram)),
    ];
    for (name, accuracy) in guessers {
        println!("{name}: {accuracy:.3}");
        assert!((accuracy - 0.25).abs() < 0.06, "{name}: {accuracy}");
    }
    for label in 0..4 {
        let share = questions.iter().filter(|q| q.label == label).count();
        assert!((190..=310).contains(&share), "label {label}: {share}");
    }
    for question in &questions {
        let lengths = question.endings.each_ref().map(|ending| ending.len());
        assert!(
            lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 12,
            "{question:?}"
        );
        let different: BTreeSet<&String> = question.endings.iter().collect();
        assert_eq!(different.len(), 4);
    }
}

#[test]
fn of_four_stories_endings_one_is_the_storys_own() {
    let questions = fables::plots(VALIDATION, 300);
    assert_eq!(questions, fables::plots(VALIDATION, 300));
    let mut labels = [0; 4];
    for question in &questions {
        labels[question.label] += 1;
        for (i, ending) in question.endings.iter().enumerate() {
            let text = format!("{} {ending}\n", question.ctx);
            assert_eq!(fables::possible(&text), i == question.label, "{text}");
        }
        let different: BTreeSet<&String> = question.endings.iter().collect();
        assert_eq!(different.len(), 4);
    }
    // Each place is the right one in 75 of 300, give or take five standard deviations of 7.5.
    assert!(labels.iter().all(|n| (38..=112).contains(n)), "{labels:?}");
}

#[test]
fn questions_are_lines_of_hellaswag() {
    let questions = fables::questions(3, 5);
    assert_eq!(questions, fables::questions(3, 5));
    let lines = fables::to_jsonl(&questions);
    assert_eq!(lines.lines().count(), 5);
    for (line, question) in lines.lines().zip(&questions) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "activity_label",
            "ctx",
            "ctx_a",
            "ctx_b",
            "endings",
            "ind",
            "label",
            "source_id",
            "split",
            "split_type",
        ];
        assert_eq!(fields, expected);
        assert_eq!(value["endings"], serde_json::json!(question.endings));
        assert_eq!(value["label"], question.label);
        for (field, text) in [("ctx", &question.ctx), ("ctx_a", &question.ctx)] {
            assert_eq!(value[field], **text);
        }
        assert_eq!(value["activity_label"], question.ctx.lines().next().unwrap());
    }
}
