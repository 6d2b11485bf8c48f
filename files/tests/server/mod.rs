//! A web server on this machine, as good or as bad as a test needs it.

// Each file of tests uses its part of this.
#![allow(dead_code)]

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// A URL at which nobody listens, and no other test's server will: whoever asks for any free port
/// gets none below 1024.
pub const NOBODY: &str = "http://127.0.0.1:1/input.txt";

/// What the server does with every request.
#[derive(Clone)]
pub enum Answer {
    /// Sends these bytes, the head included, and closes the connection.
    Send(Vec<u8>),
    /// Sends these bytes and then nothing more, but keeps the connection open.
    SendAndStall(Vec<u8>),
    /// Sends these bytes one by one, with a pause before each, and closes the connection.
    SendSlowly(Vec<u8>, Duration),
}

/// Answers every request that way until the test's process ends; returns the URL.
pub fn serve(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/input.txt", listener.local_addr().unwrap());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, answer) = (connection.unwrap(), answer.clone());
            thread::spawn(move || give(connection, answer));
        }
    });
    url
}

/// A good answer: the head with the right length, and the content.
pub fn good(content: &str) -> Vec<u8> {
    let length = content.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{content}").into_bytes()
}

fn give(mut connection: TcpStream, answer: Answer) {
    let request = BufReader::new(connection.try_clone().unwrap());
    // Closing with the request unread would reset the connection.
    let mut head = request.lines().map_while(Result::ok);
    head.find(String::is_empty);
    match answer {
        // A client that has gone is the client's test's business.
        Answer::Send(bytes) => drop(connection.write_all(&bytes)),
        Answer::SendAndStall(bytes) => {
            connection.write_all(&bytes).ok();
            // Ends when the client hangs up.
            head.next();
        }
        Answer::SendSlowly(bytes, pause) => {
            for byte in bytes {
                thread::sleep(pause);
                connection.write_all(&[byte]).ok();
            }
        }
    }
}
