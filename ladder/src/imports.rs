//! The `use` lines of a program that is not whole yet: of the imports that it will have, those that it needs.

use anyhow::{Context, Result};
use syn::{File, Item, UseTree};

/// What a trait is imported for, since its own name stands nowhere in the code.
const TRAITS: [(&str, &[&str]); 5] = [
    ("Context", &[".context(", ".with_context("]),
    ("Engine", &["BASE64_STANDARD."]),
    ("IndexOp", &[".i("]),
    ("Module", &["impl Module"]),
    ("OptimizerConfig", &[".build("]),
];

/// rustfmt's, though a list of imports has to stay a column below it, and two where it is all on one line.
const MAX_WIDTH: usize = 100;

/// The imports of two programs.
pub struct Imports {
    statements: Vec<Statement>,
}

/// `use std::{path::Path, process::ExitCode};`: what all its names begin with, and how each goes on.
struct Statement {
    root: Vec<String>,
    names: Vec<Vec<String>>,
}

impl Imports {
    pub fn of(old: &str, new: &str) -> Result<Imports> {
        let mut statements = statements(new)?;
        for Statement { root, names } in statements_or_none(old) {
            match statements.iter_mut().find(|known| known.root == root) {
                Some(known) => {
                    let lacking = names.into_iter().filter(|name| !known.names.contains(name));
                    let lacking: Vec<_> = lacking.collect();
                    known.names.extend(lacking);
                }
                None => statements.push(Statement { root, names }),
            }
        }
        Ok(Imports { statements })
    }

    /// The `use` lines that some code needs, sorted as rustfmt sorts them.
    pub fn for_code(&self, code: &str) -> Vec<String> {
        let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        let code = &code.collect::<Vec<_>>().join("\n");
        let mut statements = Vec::new();
        for Statement { root, names } in &self.statements {
            let needed = names.iter().filter(|name| is_needed(root, name, code));
            let needed: Vec<&[String]> = needed.map(Vec::as_slice).collect();
            if !needed.is_empty() {
                statements.push(printed(root, &needed));
            }
        }
        statements.sort_by(|a, b| a[0].trim_end_matches(';').cmp(b[0].trim_end_matches(';')));
        statements.concat()
    }
}

fn is_needed(root: &[String], name: &[String], code: &str) -> bool {
    let last = name.last().filter(|last| *last != "self").or(root.last());
    let last = last.map_or("", String::as_str);
    if let Some((_, signs)) = TRAITS.iter().find(|(known, _)| *known == last) {
        return signs.iter().any(|sign| code.contains(sign));
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(last).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + last.len()..].chars().next();
        // `nn::Linear` names Linear by its path, and needs no import of it.
        let by_path = code[..at].ends_with("::");
        !before.is_some_and(is_part) && !after.is_some_and(is_part) && !by_path
    })
}

fn statements_or_none(program: &str) -> Vec<Statement> {
    statements(program).unwrap_or_default()
}

fn statements(program: &str) -> Result<Vec<Statement>> {
    let File { items, .. } = syn::parse_file(program).context("this is not Rust")?;
    let uses = items.into_iter().filter_map(|item| match item {
        Item::Use(item) => Some(item.tree),
        _ => None,
    });
    Ok(uses.map(|tree| statement(&tree)).collect())
}

fn statement(tree: &UseTree) -> Statement {
    let mut root = Vec::new();
    let mut tree = tree;
    while let UseTree::Path(path) = tree {
        root.push(path.ident.to_string());
        tree = &path.tree;
    }
    let mut names = Vec::new();
    collect(tree, &mut Vec::new(), &mut names);
    Statement { root, names }
}

fn collect(tree: &UseTree, path: &mut Vec<String>, names: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Group(group) => {
            for tree in &group.items {
                collect(tree, path, names);
            }
        }
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            collect(&step.tree, path, names);
            path.pop();
        }
        UseTree::Name(name) => names.push([path.as_slice(), &[name.ident.to_string()]].concat()),
        UseTree::Rename(name) => {
            let renamed = format!("{} as {}", name.ident, name.rename);
            names.push([path.as_slice(), &[renamed]].concat());
        }
        UseTree::Glob(_) => names.push([path.as_slice(), &["*".to_string()]].concat()),
    }
}

/// A statement as rustfmt sets it.
fn printed(root: &[String], names: &[&[String]]) -> Vec<String> {
    let parts = parts(names);
    if let [part] = parts.as_slice() {
        let path = root.iter().map(String::as_str).chain((part != "self").then_some(part.as_str()));
        return vec![format!("use {};", path.collect::<Vec<_>>().join("::"))];
    }
    let root = root.join("::");
    // A list with lists in it goes one to a line; others fill the lines.
    let is_nested = parts.iter().any(|part| part.contains('{'));
    let line = format!("use {root}::{{{}}};", parts.join(", "));
    if line.len() < MAX_WIDTH - 1 && !is_nested {
        return vec![line];
    }
    let mut lines = vec![format!("use {root}::{{")];
    for part in parts {
        let last = lines.last_mut().filter(|last| {
            let fits = last.len() + part.len() + 2 < MAX_WIDTH;
            !is_nested && last.ends_with(',') && fits
        });
        match last {
            Some(last) => *last += &format!(" {part},"),
            None => lines.push(format!("    {part},")),
        }
    }
    lines.push("};".into());
    lines
}

/// What stands between a statement's braces.
fn parts(names: &[&[String]]) -> Vec<String> {
    let mut heads: Vec<&str> = names.iter().map(|name| name[0].as_str()).collect();
    heads.sort_by_key(|head| (*head != "self", *head));
    heads.dedup();
    let below = |head: &str| -> Vec<&[String]> {
        let below = names.iter().filter(|name| name[0] == head && name.len() > 1);
        below.map(|name| &name[1..]).collect()
    };
    let part = |head: &str| match parts(&below(head)).as_slice() {
        [] => head.to_string(),
        [one] => format!("{head}::{one}"),
        several => format!("{head}::{{{}}}", several.join(", ")),
    };
    heads.into_iter().map(part).collect()
}
