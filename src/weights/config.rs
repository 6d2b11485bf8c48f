//! What `config.json` asks for, and whether the plain GPT-2 does it.

use super::read_json;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// A `config.json`, read.
pub struct Config {
    pub path: PathBuf,
    /// `None` where there is no such file.
    keys: Option<Map<String, Value>>,
}

/// The values of a key that the plain GPT-2 has.
enum Plain {
    /// This one, and no 0 or 1 in its place.
    Switch(bool),
    /// Either: it is looked at elsewhere.
    AnySwitch,
    /// One of these.
    Word(&'static [&'static str]),
    /// This one.
    Number(f64),
    /// Any: it is compared with the tensors elsewhere.
    WholeNumber,
    /// `null` or four times the width.
    FourTimesWidth,
    /// `null`, `{}` or `[]`.
    Nothing,
}

/// Every key by which transformers 5.23 or an older version computes something else than the plain
/// GPT-2, or says that the model is none, with the values that the plain GPT-2 has there. A key that is
/// not in the file has one of them in transformers too.
///
/// All other keys pass, known or not: dropout, which is off when a text is written;
/// `reorder_and_upcast_attn`, another order of the same computation; `dtype`, for we compute in
/// float32 always; and whatever belongs to a task, to training or to sampling.
const KEYS: [(&str, Plain); 24] = [
    ("model_type", Plain::Word(&["gpt2"])),
    ("vocab_size", Plain::WholeNumber),
    ("n_positions", Plain::WholeNumber),
    ("max_position_embeddings", Plain::WholeNumber),
    ("n_embd", Plain::WholeNumber),
    ("hidden_size", Plain::WholeNumber),
    ("n_layer", Plain::WholeNumber),
    ("num_hidden_layers", Plain::WholeNumber),
    ("n_head", Plain::WholeNumber),
    ("num_attention_heads", Plain::WholeNumber),
    ("n_inner", Plain::FourTimesWidth),
    // Five names of one formula. `gelu` is not among them: that is the one with erf.
    (
        "activation_function",
        Plain::Word(&[
            "gelu_new",
            "gelu_fast",
            "gelu_accurate",
            "gelu_pytorch_tanh",
            "gelu_python_tanh",
        ]),
    ),
    ("layer_norm_epsilon", Plain::Number(1e-5)),
    ("scale_attn_weights", Plain::Switch(true)),
    ("scale_attn_by_inverse_layer_idx", Plain::Switch(false)),
    ("is_causal", Plain::Switch(true)),
    ("add_cross_attention", Plain::Switch(false)),
    ("is_encoder_decoder", Plain::Switch(false)),
    ("tie_word_embeddings", Plain::AnySwitch), // `Weights::expect_tied` looks at the matrices
    ("pruned_heads", Plain::Nothing),
    ("per_layer_config", Plain::Nothing),
    ("quantization_config", Plain::Nothing),
    ("transformers_weights", Plain::Nothing), // other files than we read
    ("peft_type", Plain::Nothing),            // an adapter's
];

/// Keys that transformers knows by two names.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("n_embd", "hidden_size"),
    ("n_head", "num_attention_heads"),
    ("n_layer", "num_hidden_layers"),
    ("n_positions", "max_position_embeddings"),
];

/// What transformers takes where a config.json does not say it.
const DEFAULT_HEADS: i64 = 12;

impl Config {
    /// # Errors
    /// When there is such a file and it cannot be read, or holds something else than a JSON object.
    pub fn read(path: PathBuf) -> Result<Self> {
        let keys = if path.is_file() { Some(read_json(&path, "JSON object")?) } else { None };
        Ok(Self { path, keys })
    }

    /// The whole number under a key, or under its other name.
    pub fn whole(&self, key: &str) -> Result<Option<i64>> {
        let number = self.whole_as_named(key)?;
        let mut by_other_name = None;
        if let Some(other) = other_name(key) {
            by_other_name = self.whole_as_named(other)?;
            if let (Some(a), Some(b)) = (number, by_other_name) {
                let path = self.path.display();
                ensure!(
                    a == b,
                    "{path}: {key} is {a} and {other} is {b}, and both mean the same; keep one"
                );
            }
        }
        let default = (key == "n_head" && self.keys.is_some()).then_some(DEFAULT_HEADS);
        Ok(number.or(by_other_name).or(default))
    }

    /// The name that the file has for a key.
    pub fn name_of<'a>(&self, key: &'a str) -> &'a str {
        let other =
            other_name(key).filter(|other| self.get(key).is_none() && self.get(other).is_some());
        other.unwrap_or(key)
    }

    fn whole_as_named(&self, key: &str) -> Result<Option<i64>> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_i64().map(Some).with_context(|| {
                format!("{}: {key} is {}, no whole number", self.path.display(), shown(value))
            }),
        }
    }

    pub fn is_false(&self, key: &str) -> bool {
        self.get(key) == Some(&Value::Bool(false))
    }

    /// Checks all keys but those of sizes that the tensors show; a key that is not there is right.
    pub fn expect_plain_gpt2(&self, n_embd: i64) -> Result<()> {
        for (key, plain) in &KEYS {
            if let Some(value) = self.get(key)
                && !plain.allows(value, n_embd)
            {
                bail!(
                    "{}: {key} is {}, and in the plain GPT-2, which is all that is computed here, it is {}; \
                     take another checkpoint",
                    self.path.display(),
                    shown(value),
                    plain.words(n_embd)
                );
            }
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.keys.as_ref()?.get(key)
    }
}

fn other_name(key: &str) -> Option<&'static str> {
    OTHER_NAMES.iter().find(|(name, _)| *name == key).map(|(_, other)| *other)
}

impl Plain {
    fn allows(&self, value: &Value, n_embd: i64) -> bool {
        match self {
            Self::Switch(switch) => value.as_bool() == Some(*switch),
            Self::AnySwitch => value.is_boolean(),
            Self::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::Number(number) => value.as_f64() == Some(*number),
            Self::WholeNumber => value.is_i64(),
            Self::FourTimesWidth => value.is_null() || value.as_i64() == n_embd.checked_mul(4),
            Self::Nothing => match value {
                Value::Null => true,
                Value::Object(object) => object.is_empty(),
                Value::Array(array) => array.is_empty(),
                _ => false,
            },
        }
    }

    fn words(&self, n_embd: i64) -> String {
        match self {
            Self::Switch(switch) => switch.to_string(),
            Self::AnySwitch => "true or false".into(),
            Self::Word(words) => format!("{:?}", words[0]),
            Self::Number(number) => format!("{number:e}"),
            Self::WholeNumber => "a whole number".into(),
            Self::FourTimesWidth => format!("null or 4·{n_embd}"),
            Self::Nothing => "empty".into(),
        }
    }
}

/// A value as JSON has it, and of a long one the beginning.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
