//! Checks the built book: every link and picture leads somewhere, every id is unique on its page, and
//! nothing is fetched from elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::{Component, Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context, Result, bail};
use percent_encoding::percent_decode_str;
use regex::Regex;
use scraper::{Html, Selector};

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

/// What one page holds.
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
    let mut pages = BTreeMap::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "html")) {
        pages.insert(file.clone(), Page::read(&fs::read_to_string(folder.join(file))?));
    }
    if pages.is_empty() {
        bail!("there is no built book in {}; run `cargo xtask book`", folder.display());
    }
    let mut report =
        Report { pages: pages.len(), links: 0, external: BTreeSet::new(), broken: Vec::new() };
    for (file, page) in &pages {
        for id in &page.twice {
            report.broken.push(format!("{}: the id {id} stands twice", file.display()));
        }
        for link in page.links.iter().chain(&page.loads) {
            report.links += 1;
            if let Some(why) = broken(link, file, &files, &pages) {
                report.broken.push(format!("{}: {link}: {why}", file.display()));
            }
        }
        for link in page.links.iter().filter(|link| leads_away(link)) {
            report.links -= 1;
            report.external.insert(link.clone());
        }
        let loads = page.loads.iter().filter(|load| leads_away(load));
        report.broken.extend(loads.map(|load| loaded_from_elsewhere(file, load)));
    }
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "css")) {
        for load in style_loads(&fs::read_to_string(folder.join(file))?) {
            if leads_away(&load) {
                report.broken.push(loaded_from_elsewhere(file, &load));
            } else if let Some(why) = broken(&load, file, &files, &pages) {
                report.broken.push(format!("{}: {load}: {why}", file.display()));
            }
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
        static ALL: LazyLock<Selector> =
            LazyLock::new(|| Selector::parse("*").expect("it is valid"));
        let mut page =
            Page { ids: HashSet::new(), twice: Vec::new(), links: Vec::new(), loads: Vec::new() };
        for element in Html::parse_document(html).select(&ALL) {
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

fn loaded_from_elsewhere(file: &Path, load: &str) -> String {
    format!("{}: {load}: the page would load this from elsewhere", file.display())
}

fn leads_away(link: &str) -> bool {
    let scheme = link.split_once(':').map(|(scheme, _)| scheme);
    let scheme = scheme
        .filter(|scheme| scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)));
    link.starts_with("//") || scheme.is_some_and(|scheme| scheme != "data")
}

/// Why a link that stands in `file` leads nowhere, if it does.
fn broken(
    link: &str,
    file: &Path,
    files: &BTreeSet<PathBuf>,
    pages: &BTreeMap<PathBuf, Page>,
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
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("{}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder)?.to_path_buf());
            }
        }
    }
    Ok(files)
}
