//! Shows the book while it is written: serves its pages on this machine, and builds them again when
//! something changes.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Result, anyhow};
use tiny_http::{Header, Request, Response, Server};

use crate::build::build;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Serves the book until it is interrupted. A build that fails is reported, and the pages of the last
/// one stay.
pub fn serve(book: &Path, port: u16) -> Result<()> {
    let pages = book.join("book");
    rebuild(book);
    let server = Server::http(("127.0.0.1", port))
        .map_err(|why| anyhow!("port {port} cannot be used ({why}); name another with --port"))?;
    println!("the book is at http://localhost:{port}/ until you press Ctrl-C");
    thread::spawn(move || server.incoming_requests().for_each(|request| answer(request, &pages)));

    let mut seen = last_change(book);
    loop {
        thread::sleep(LOOK_EVERY);
        let now = last_change(book);
        if now != seen {
            seen = now;
            rebuild(book);
        }
    }
}

fn rebuild(book: &Path) {
    match build(book) {
        Ok(_) => println!("the book is built; reload its page"),
        Err(error) => eprintln!("error: {error:#}"),
    }
}

fn answer(request: Request, pages: &Path) {
    let file = file(request.url(), pages);
    let sent = match fs::read(&file) {
        Ok(content) => request.respond(Response::from_data(content).with_header(kind(&file))),
        Err(_) => {
            request.respond(Response::from_string("there is no such page").with_status_code(404))
        }
    };
    if let Err(error) = sent {
        eprintln!("a page could not be sent: {error}");
    }
}

/// The file for an address, never outside the folder of the pages.
fn file(url: &str, pages: &Path) -> PathBuf {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
    let mut file = pages.to_path_buf();
    let parts = Path::new(&path).components();
    file.extend(parts.filter(|part| matches!(part, Component::Normal(_))));
    if file.is_dir() { file.join("index.html") } else { file }
}

fn kind(file: &Path) -> Header {
    let kind = match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    Header::from_bytes("Content-Type", kind).expect("it is ASCII")
}

/// When anything that the book is made of changed last.
fn last_change(book: &Path) -> Option<SystemTime> {
    let parts = ["book.toml", "src", "theme", "recorded", "../steps", "../src"];
    parts.iter().filter_map(|part| newest(&book.join(part))).max()
}

fn newest(path: &Path) -> Option<SystemTime> {
    let own = fs::metadata(path).and_then(|data| data.modified()).ok();
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    below.filter_map(|entry| newest(&entry.path())).chain(own).max()
}
