//! What `lab` writes of a run into `record.json`, as far as it is compared and told.

use anyhow::{Context, Result};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Record {
    pub values: Vec<Value>,
}

#[derive(Deserialize)]
pub struct Value {
    pub name: String,
    pub text: String,
    /// A value without one is exact.
    #[serde(flatten)]
    pub class: Option<Class>,
}

/// How near the same program comes on another machine.
#[derive(Deserialize)]
#[serde(tag = "class", rename_all = "lowercase")]
pub enum Class {
    Exact,
    Tolerant { tolerance: f64 },
    Masked,
}

impl Record {
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).context("its record.json is none of lab's")
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.name == name)
    }

    /// What `run`, whose record this is, has printed as the value of this name.
    ///
    /// # Errors
    /// It has no such value, but perhaps some whose names begin like this one.
    pub fn printed(&self, run: &str, name: &str) -> Result<&str> {
        let stem: String = name.chars().take(4).collect();
        let names = self.values.iter().map(|value| value.name.as_str());
        let alike: Vec<&str> = names.filter(|name| name.starts_with(&stem)).take(8).collect();
        let alike =
            if alike.is_empty() { "".into() } else { format!("; it has {}", alike.join(", ")) };
        let value = self.get(name).with_context(|| format!("{run} has no value {name}{alike}"))?;
        Ok(value.text.trim())
    }
}

impl Value {
    pub fn number(&self) -> Option<f64> {
        self.text.replace(',', "").parse().ok()
    }
}
