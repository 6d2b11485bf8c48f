//! What stands where in a Rust file, found in its syntax tree: so the lessons need no marker comments.

use std::ops::Range;

use anyhow::{Context, Result};
use syn::{
    Arm, Expr, Field, FieldValue, ImplItem, Item, Local, Member, Pat, Stmt, TraitItem, Type,
    Variant,
    spanned::Spanned,
    visit::{self, Visit},
};

/// The items of a file and the places within them.
pub struct Outline<'a> {
    lines: Vec<&'a str>,
    places: Vec<Place>,
}

/// A part of a file, down to the line before `end`.
pub struct Cut {
    /// The item's: `fn batch`, `struct Head`, `impl Head`, `Head::weights`.
    pub name: String,
    /// The `impl` that it is a method of, if it is one.
    pub holder: String,
    pub end: usize,
}

/// Something that has a name and some lines.
struct Place {
    /// `fn batch`, `impl Head`, `let x`, `for step in 0..steps`, ...
    label: String,
    /// The full name of an item: `Head::weights` for the method; nothing for what is no item.
    item: Option<String>,
    /// From its comment to its end, counted from 0.
    lines: Range<usize>,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Item,
    /// A loop or a condition: "in `for ...`".
    Block,
    /// A statement, a field, ...: "after `let x`".
    Part,
}

impl<'a> Outline<'a> {
    pub fn of(text: &'a str) -> Result<Outline<'a>> {
        let file = syn::parse_file(text).context("this is not Rust")?;
        let mut collector = Collector {
            outline: Outline { lines: text.lines().collect(), places: Vec::new() },
            owner: None,
        };
        collector.visit_file(&file);
        Ok(collector.outline)
    }

    /// The file cut into its items: the comment at the top as `header`, and an `impl` in its beginning, its
    /// methods, and its end.
    pub fn cuts(&self) -> Vec<Cut> {
        let mut cuts: Vec<Cut> = Vec::new();
        let mut cut = |name: &str, holder: &str, end| {
            cuts.push(Cut { name: name.into(), holder: holder.into(), end });
        };
        let mut open: Option<(&str, usize)> = None; // an `impl`, and where it ends
        let mut begun = false; // whether one of its methods has come
        let mut end = self.lines.iter().take_while(|line| line.starts_with("//")).count();
        cut("header", "", end);
        for place in self.items() {
            let name = place.item.as_deref().unwrap_or_default();
            let (start, is_member) = (place.lines.start, name.contains("::"));
            if start < end && !is_member {
                continue; // an item within a function
            }
            let mut holder = "";
            if is_member && let Some((open, _)) = open {
                if !begun {
                    cut(open, "", start);
                }
                begun = true;
                holder = open;
            } else if let Some((holder, end)) = open.take() {
                cut(holder, "", end);
            }
            if name.starts_with("impl ") || name.starts_with("trait ") {
                open = Some((name, place.lines.end));
                begun = false;
            } else {
                cut(name, holder, place.lines.end);
            }
            end = place.lines.end.max(end);
        }
        if let Some((holder, end)) = open {
            cut(holder, "", end);
        }
        cut("rest", "", self.lines.len());
        cuts
    }

    fn items(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.kind == Kind::Item)
    }

    /// Where a line stands, as one says it to somebody who types along: "in `impl Model`, in
    /// `fn forward`, after `let x`". `old` is what that person has so far.
    pub fn place(&self, line: usize, old: &Outline) -> String {
        let has_line = |place: &&Place| place.lines.start < line && line < place.lines.end;
        let is_old = |place: &Place| place.item.as_ref().is_some_and(|item| old.has(item));
        let changed = |place: &&Place| place.lines.start == line && is_old(place);
        let holders = self.places.iter().filter(|place| match place.kind {
            Kind::Item => has_line(place) || changed(place),
            Kind::Block => has_line(place),
            Kind::Part => false,
        });
        let holders: Vec<&Place> = holders.collect();
        let mut words: Vec<String> =
            holders.iter().map(|place| format!("in `{}`", place.label)).collect();

        let new = self.items().any(|place| place.lines.start == line && !is_old(place));
        if new {
            words.insert(0, "new".into());
        }
        let head = holders.iter().any(|place| place.lines.start == line);
        let inside = holders.last().map_or(0..self.lines.len(), |place| place.lines.clone());
        match self.last_before(line, inside) {
            Some(place) if place.label == "use" => words.push("below the imports".into()),
            Some(place) => words.push(format!("after `{}`", place.label)),
            None if head => {}
            None => words.push("at the top".into()),
        }
        words.join(", ")
    }

    /// Whether it holds the item of this name.
    pub fn has(&self, item: &str) -> bool {
        self.items().any(|place| place.item.as_deref() == Some(item))
    }

    /// What ends last before a line, of all that begins inside; of several the outermost.
    fn last_before(&self, line: usize, inside: Range<usize>) -> Option<&Place> {
        let begins_inside = |place: &&Place| {
            let whole = place.lines == inside;
            inside.contains(&place.lines.start) && !whole && place.lines.end <= line
        };
        let named = self.places.iter().filter(|place| !place.label.is_empty());
        let lines = |place: &&Place| (place.lines.end, usize::MAX - place.lines.start);
        named.filter(begins_inside).max_by_key(lines)
    }
}

/// Walks through the syntax tree and notes the places.
struct Collector<'a> {
    outline: Outline<'a>,
    /// The type whose `impl` is being read.
    owner: Option<String>,
}

impl Collector<'_> {
    fn note(&mut self, kind: Kind, label: String, item: Option<String>, node: &impl Spanned) {
        let span = node.span();
        let mut lines = span.start().line - 1..span.end().line;
        let is_comment = |line: &&&str| line.trim_start().starts_with("//");
        if kind == Kind::Item {
            let above = self.outline.lines[..lines.start].iter().rev();
            lines.start -= above.take_while(is_comment).count();
        }
        self.outline.places.push(Place { label, item, lines, kind });
    }

    fn item(&mut self, label: String, node: &impl Spanned) {
        self.note(Kind::Item, label.clone(), Some(label), node);
    }

    /// `fn weights`, which is called `Head::weights`.
    fn member(&mut self, label: String, name: String, node: &impl Spanned) {
        let owner = self.owner.clone().unwrap_or_default();
        self.note(Kind::Item, label, Some(format!("{owner}::{name}")), node);
    }

    /// The text of a node's first line, up to the first of some endings.
    fn beginning(&self, node: &impl Spanned, endings: &[&str]) -> String {
        let start = node.span().start();
        let line = self.outline.lines[start.line - 1];
        let text: String = line.chars().skip(start.column).collect();
        let end = endings.iter().filter_map(|ending| text.find(ending)).min();
        text[..end.unwrap_or(text.len())].trim_end().to_string()
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Const(item) => self.item(format!("const {}", item.ident), item),
            Item::Enum(item) => self.item(format!("enum {}", item.ident), item),
            Item::Fn(item) => self.item(format!("fn {}", item.sig.ident), item),
            Item::Macro(item) => {
                let name = item.ident.as_ref().map(|name| format!("macro {name}"));
                self.item(name.unwrap_or_default(), item);
            }
            Item::Mod(item) => self.item(format!("mod {}", item.ident), item),
            Item::Static(item) => self.item(format!("static {}", item.ident), item),
            Item::Struct(item) => self.item(format!("struct {}", item.ident), item),
            Item::Trait(item) => self.item(format!("trait {}", item.ident), item),
            Item::Type(item) => self.item(format!("type {}", item.ident), item),
            Item::Use(item) => self.item("use".into(), item),
            Item::Impl(item) => {
                let name = type_name(&item.self_ty);
                let of = item.trait_.as_ref().and_then(|(path, _)| path.segments.last());
                let of = of.map_or(String::new(), |of| format!("{} for ", of.ident));
                self.item(format!("impl {of}{name}"), item);
                self.owner = Some(name);
            }
            _ => {}
        }
        if let Item::Trait(item) = item {
            self.owner = Some(item.ident.to_string());
        }
        visit::visit_item(self, item);
        self.owner = None;
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(f) => {
                self.member(format!("fn {}", f.sig.ident), f.sig.ident.to_string(), f)
            }
            ImplItem::Const(c) => self.member(format!("const {}", c.ident), c.ident.to_string(), c),
            _ => {}
        }
        visit::visit_impl_item(self, item);
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if let TraitItem::Fn(f) = item {
            self.member(format!("fn {}", f.sig.ident), f.sig.ident.to_string(), f);
        }
        visit::visit_trait_item(self, item);
    }

    fn visit_field(&mut self, field: &'ast Field) {
        let label = field.ident.as_ref().map_or(String::new(), |name| name.to_string());
        self.note(Kind::Part, label, None, field);
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if let Member::Named(name) = &field.member {
            self.note(Kind::Part, name.to_string(), None, field);
        }
        visit::visit_field_value(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast Variant) {
        self.note(Kind::Part, variant.ident.to_string(), None, variant);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        let label = self.beginning(arm, &[" =>"]);
        self.note(Kind::Part, label, None, arm);
        visit::visit_arm(self, arm);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        let pattern = match &local.pat {
            Pat::Type(typed) => &*typed.pat,
            pattern => pattern,
        };
        let label = format!("let {}", self.beginning(pattern, &[" =", ":", ";"]));
        self.note(Kind::Part, label, None, local);
        visit::visit_local(self, local);
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        if let Stmt::Expr(expression, _) = statement
            && !is_block(expression)
        {
            let label = self.beginning(statement, &["(", ";", " {"]);
            self.note(Kind::Part, label, None, statement);
        } else if let Stmt::Macro(call) = statement {
            let label = self.beginning(call, &["("]);
            self.note(Kind::Part, label, None, call);
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        if is_block(expression) {
            let label = self.beginning(expression, &[" {"]);
            self.note(Kind::Block, label, None, expression);
        }
        visit::visit_expr(self, expression);
    }
}

fn is_block(expression: &Expr) -> bool {
    matches!(
        expression,
        Expr::ForLoop(_) | Expr::While(_) | Expr::Loop(_) | Expr::If(_) | Expr::Match(_)
    )
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::Path(path) => {
            path.path.segments.last().map_or(String::new(), |name| name.ident.to_string())
        }
        Type::Reference(reference) => type_name(&reference.elem),
        _ => String::new(),
    }
}
