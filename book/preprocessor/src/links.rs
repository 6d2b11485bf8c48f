//! Checks the built book: every link and picture leads somewhere, every id is unique on its page, and
//! nothing is fetched from elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Result, bail};
use percent_encoding::percent_decode_str;
use regex::Regex;
use scraper::{Html, Selector};
use walkdir::WalkDir;

/// What the check found.
pub struct Report {
    pub pages: usize,
    /// How many links lead to something within the book.
    pub links: usize,
    /// Where the links to elsewhere lead. They are never fetched.
    pub external: BTreeSet<String>,
    /// One sentence each.
    pub broken: Vec<String>,
}

/// What a page holds, or a style sheet.
#[derive(Default)]
struct Page {
    ids: HashSet<String>,
    twice: Vec<String>,
    /// What a reader can follow.
    links: Vec<String>,
    /// What the browser loads by itself.
    loads: Vec<String>,
}

/// Checks all pages and style sheets in a folder.
pub fn check(folder: &Path) -> Result<Report> {
    let files = files(folder)?;
    let mut report = Report { pages: 0, links: 0, external: BTreeSet::new(), broken: Vec::new() };
    let mut pages = BTreeMap::new();
    for file in &files {
        let text = || fs::read_to_string(folder.join(file));
        match file.extension().and_then(OsStr::to_str) {
            Some("html") => {
                let page = Page::read(&text()?);
                report.pages += 1;
                report.links += page.links.iter().filter(|link| !leads_away(link)).count();
                report.links += page.loads.len();
                pages.insert(file, page);
            }
            Some("css") => {
                let page = Page { loads: style_loads(&text()?), ..Page::default() };
                pages.insert(file, page);
            }
            _ => {}
        }
    }
    if report.pages == 0 {
        bail!("there is no built book in {}; run `cargo xtask book`", folder.display());
    }
    for (file, page) in &pages {
        let file_name = file.display();
        let twice = page.twice.iter().map(|id| format!("{file_name}: the id {id} stands twice"));
        report.broken.extend(twice);
        for link in page.links.iter().chain(&page.loads) {
            if let Some(why) = broken(link, file, &files, &pages) {
                report.broken.push(format!("{file_name}: {link}: {why}"));
            }
        }
        report.external.extend(page.links.iter().filter(|link| leads_away(link)).cloned());
        for load in page.loads.iter().filter(|load| leads_away(load)) {
            let why = "the page would load this from elsewhere";
            report.broken.push(format!("{file_name}: {load}: {why}"));
        }
    }
    Ok(report)
}

impl Report {
    /// An error that tells everything that is broken.
    pub fn fail_if_broken(&self) -> Result<()> {
        if !self.broken.is_empty() {
            bail!("the built book has broken links\n{}", self.broken.join("\n"));
        }
        Ok(())
    }
}

impl Page {
    fn read(html: &str) -> Page {
        let all = Selector::parse("*").expect("it is valid");
        let mut page = Page::default();
        for element in Html::parse_document(html).select(&all) {
            if let Some(id) = element.attr("id")
                && !page.ids.insert(id.into())
            {
                page.twice.push(id.into());
            }
            if element.value().name() == "a" {
                page.links.extend(element.attr("href").map(str::to_string));
            } else {
                let loads = [element.attr("href"), element.attr("src"), element.attr("xlink:href")];
                page.loads.extend(loads.into_iter().flatten().map(str::to_string));
            }
        }
        page
    }
}

fn leads_away(link: &str) -> bool {
    static AWAY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^(//|[a-zA-Z0-9+.-]+:)").expect("it is valid"));
    AWAY.is_match(link) && !link.starts_with("data:")
}

/// Why a link that stands in `file` leads nowhere, if it does.
fn broken(
    link: &str,
    file: &Path,
    files: &BTreeSet<PathBuf>,
    pages: &BTreeMap<&PathBuf, Page>,
) -> Option<String> {
    if leads_away(link) || link.starts_with("data:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split('?').next().unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8_lossy();
    let target = if path.is_empty() { file.to_path_buf() } else { resolve(file, &path) };
    if !files.contains(&target) {
        return Some(format!("there is no {}", target.display()));
    }
    let anchor = percent_decode_str(anchor).decode_utf8_lossy();
    let page = pages.get(&target).filter(|_| !anchor.is_empty())?;
    (!page.ids.contains(anchor.as_ref())).then(|| format!("{} has no #{anchor}", target.display()))
}

/// The file that a path in another file names.
fn resolve(file: &Path, path: &str) -> PathBuf {
    let mut target = file.parent().map(Path::to_path_buf).unwrap_or_default();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => target.push(name),
            Component::ParentDir => {
                target.pop();
            }
            Component::RootDir => target.clear(),
            _ => {}
        }
    }
    if path.ends_with('/') {
        target.push("index.html");
    }
    target
}

fn style_loads(css: &str) -> Vec<String> {
    static URL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?:url\(\s*["']?|@import\s+["'])([^"')\s]+)"#).expect("it is valid")
    });
    URL.captures_iter(css).map(|url| url[1].to_string()).collect()
}

/// All files below a folder, as paths from it.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.insert(entry.path().strip_prefix(folder)?.to_path_buf());
        }
    }
    Ok(files)
}
