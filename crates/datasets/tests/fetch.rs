//! Downloads from a local server that does everything wrong a server can do.
#![cfg(feature = "fetch")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datasets::fetch::{FetchError, FetchOptions, Fetched, fetch};
use datasets::manifest::Manifest;
use sha2::{Digest, Sha256};

const NAME: &str = "archive.tar.gz";
const SIZE: usize = 300_000;

/// What the server does with one request.
#[derive(Clone, Debug)]
enum Act {
    /// Answers as it should, ranges included.
    Serve,
    /// Sends the whole, whatever was asked for.
    IgnoreRange,
    /// Announces all and closes after this many bytes.
    Truncate(usize),
    /// Announces all, sends this many bytes, and then nothing until the client goes.
    Stall(usize),
    /// Accepts and never answers.
    Silence,
    /// Sends the right number of wrong bytes.
    Corrupt,
    /// Sends the reader elsewhere.
    Redirect(&'static str),
    /// A status and a short text.
    Status(u16),
    /// A web page that says what it is, or one that says it is an archive.
    Page { honest: bool },
    /// A part that begins elsewhere than asked.
    WrongRange,
    /// A part without a range.
    NoRange,
    /// Announces, and sends, more than there is.
    TooLong,
    /// The body in chunks, without a length; cut off in the middle of one when told to.
    Chunks { whole: bool },
    /// Not HTTP.
    Garbage,
    /// Hangs up at once.
    HangUp,
}

fn content() -> Vec<u8> {
    (0..SIZE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A server that does the acts in turn, the last one for ever; it also keeps what it was asked.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(acts: Vec<Act>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let (Ok(stream), Some(act)) = (stream, acts.get(i).or(acts.last()).cloned()) else { return };
                let seen = Arc::clone(&seen);
                // A stalled connection must not keep the next one waiting. A client that has gone is no failure.
                std::thread::spawn(move || answer(stream, &act, &seen));
            }
        });
        Server { address, requests }
    }

    fn manifest(&self, sha256: &str) -> Manifest {
        self.manifest_of(&SIZE.to_string(), &format!("\"{sha256}\""))
    }

    fn manifest_of(&self, bytes: &str, sha256: &str) -> Manifest {
        let text = format!(
            "name = \"x\"\ntitle = \"X\"\nhomepage = \"\"\nlicence = \"\"\ncitation = \"\"\n[counts]\n[[archive]]\n\
             url = \"{}/{NAME}\"\nbytes = {bytes}\nsha256 = {sha256}\n",
            self.address
        );
        Manifest::parse(&text, Path::new("x.toml")).unwrap()
    }
}

fn answer(mut stream: TcpStream, act: &Act, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        head.push_str(&line.to_ascii_lowercase());
    }
    seen.lock().unwrap().push(head.clone());
    let all = content();
    let field = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    let changed = field("if-range").is_some_and(|tag| tag != "\"v1\"");
    let start = field("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let start = start.filter(|_| !changed && !matches!(act, Act::IgnoreRange));
    let from = start.unwrap_or(0);
    let ok = |from: usize, length: usize, extra: &str| {
        let status = if from > 0 {
            format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{SIZE}", SIZE - 1)
        } else {
            "200 OK".to_owned()
        };
        format!(
            "HTTP/1.1 {status}\r\nETag: \"v1\"\r\nContent-Length: {length}\r\nConnection: close\r\n{extra}\r\n"
        )
    };
    if from >= SIZE {
        let head = format!(
            "HTTP/1.1 416 No\r\nContent-Range: bytes */{SIZE}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return stream.write_all(head.as_bytes()).ok();
    }
    let rest = &all[from..];
    let mut send = |head: String, body: &[u8]| {
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()
    };
    match act {
        Act::Serve | Act::IgnoreRange => send(ok(from, rest.len(), ""), rest)?,
        Act::Truncate(n) => send(ok(from, rest.len(), ""), &rest[..*n.min(&rest.len())])?,
        Act::Stall(n) => {
            send(ok(from, rest.len(), ""), &rest[..*n.min(&rest.len())])?;
            let _ = reader.read(&mut [0]);
        }
        Act::Silence => {
            let _ = reader.read(&mut [0]);
        }
        Act::Corrupt => {
            let mut wrong = rest.to_vec();
            wrong[rest.len() / 2] ^= 0x40;
            send(ok(from, rest.len(), ""), &wrong)?;
        }
        Act::Redirect(to) => {
            let head = format!(
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            send(head, b"")?;
        }
        Act::Status(status) => {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
            send(head, b"sorry")?;
        }
        Act::Page { honest } => {
            let media = if *honest { "text/html; charset=utf-8" } else { "application/gzip" };
            let page = b"\n <!DOCTYPE html><title>Sign in</title>";
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                page.len()
            );
            send(head, page)?;
        }
        Act::WrongRange if start.is_some() => {
            let (a, b) = (from + 7, SIZE - 1);
            let head = format!(
                "HTTP/1.1 206 P\r\nContent-Range: bytes {a}-{b}/{SIZE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                SIZE - a
            );
            send(head, &all[a..])?;
        }
        Act::NoRange => {
            let head =
                format!("HTTP/1.1 206 P\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", rest.len());
            send(head, rest)?;
        }
        Act::WrongRange => send(ok(0, SIZE, ""), &all[..SIZE / 3])?,
        Act::TooLong => {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", SIZE + 5);
            send(head, &[&all[..], b"extra"].concat())?;
        }
        Act::Chunks { whole } => {
            send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_owned(),
                b"",
            )?;
            for chunk in all.chunks(70_000) {
                send(format!("{:x}\r\n", chunk.len()), chunk)?;
                if !whole {
                    return Some(());
                }
                send("\r\n".to_owned(), b"")?;
            }
            send("0\r\n\r\n".to_owned(), b"")?;
        }
        Act::Garbage => send("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(), b"")?,
        Act::HangUp => {}
    }
    Some(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn options(dir: &Path) -> FetchOptions {
    FetchOptions {
        patience: Duration::from_millis(400),
        attempts: 3,
        pause: Duration::ZERO,
        reserve: 0,
        ..FetchOptions::new(dir)
    }
}

/// Downloads once into a fresh directory.
fn run(acts: &[Act]) -> (Result<Fetched, FetchError>, Server, tempfile::TempDir) {
    let server = Server::start(acts.to_vec());
    let dir = tempfile::tempdir().unwrap();
    let result = fetch(&server.manifest(&sha256(&content())), &options(dir.path()), &mut |_| {});
    (result.map(|mut fetched| fetched.remove(0)), server, dir)
}

fn assert_whole(acts: &[Act]) -> (Fetched, Server) {
    let (result, server, dir) = run(acts);
    let fetched = result.unwrap_or_else(|error| panic!("{acts:?}: {error}"));
    assert_eq!(std::fs::read(&fetched.path).unwrap(), content(), "{acts:?}");
    assert_eq!((fetched.bytes, fetched.sha256.as_str()), (SIZE as u64, sha256(&content()).as_str()));
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [NAME], "{acts:?}: nothing else stays behind");
    (fetched, server)
}

#[test]
fn a_good_server_is_asked_once_and_what_is_there_is_kept() {
    let server = Server::start(vec![Act::Serve]);
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b");
    let manifest = server.manifest(&sha256(&content()));
    let mut last = 0;
    let first = fetch(&manifest, &options(&deep), &mut |progress| {
        assert!(progress.done >= last && progress.total == Some(SIZE as u64) && progress.file == NAME);
        last = progress.done;
    });
    assert_eq!((first.unwrap()[0].downloaded, last), (SIZE as u64, SIZE as u64));
    let again = fetch(&manifest, &FetchOptions { offline: true, ..options(&deep) }, &mut |_| {}).unwrap();
    assert_eq!((again[0].downloaded, again[0].attempts), (0, 0));
    assert_eq!(server.requests.lock().unwrap().len(), 1);

    // A file that is there and wrong is named, and not touched.
    std::fs::write(deep.join(NAME), b"mine").unwrap();
    let error = fetch(&manifest, &options(&deep), &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::Length { found: 4, .. }), "{error}");
    std::fs::write(deep.join(NAME), vec![0; SIZE]).unwrap();
    let error = fetch(&manifest, &options(&deep), &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    assert_eq!(std::fs::read(deep.join(NAME)).unwrap(), vec![0; SIZE]);
}

#[test]
fn truncated_and_stalled_downloads_are_resumed() {
    for first in [
        Act::Truncate(100_000),
        Act::Stall(100_000),
        Act::Truncate(0),
        Act::Silence,
        Act::HangUp,
        Act::Garbage,
    ] {
        let (fetched, server) = assert_whole(&[first.clone(), Act::Serve]);
        assert!(fetched.attempts >= 2, "{first:?}");
        if let Act::Truncate(n @ 1..) | Act::Stall(n) = first {
            assert_eq!(fetched.downloaded, SIZE as u64, "{first:?}: nothing came twice");
            let requests = server.requests.lock().unwrap();
            assert!(requests[1].contains(&format!("range: bytes={n}-")), "{}", requests[1]);
            assert!(requests[1].contains("if-range: \"v1\""), "{}", requests[1]);
        }
    }
    for status in [429, 500, 503] {
        assert_whole(&[Act::Status(status), Act::Serve]);
    }
}

#[test]
fn an_interrupted_download_goes_on_in_the_next_call() {
    let server =
        Server::start(vec![Act::Truncate(50_000), Act::Truncate(50_000), Act::Truncate(50_000), Act::Serve]);
    let dir = tempfile::tempdir().unwrap();
    let manifest = server.manifest(&sha256(&content()));
    match fetch(&manifest, &options(dir.path()), &mut |_| {}).unwrap_err() {
        FetchError::Interrupted { attempts: 3, done: 150_000, reason, .. } => {
            assert!(!reason.is_empty());
        }
        other => panic!("{other}"),
    }
    assert!(!dir.path().join(NAME).exists(), "an unfinished file has not the archive's name");
    let fetched = fetch(&manifest, &options(dir.path()), &mut |_| {}).unwrap();
    assert_eq!(fetched[0].downloaded, 150_000);
    assert_eq!(std::fs::read(dir.path().join(NAME)).unwrap(), content());
}

#[test]
fn servers_without_ranges_or_with_wrong_ones_cost_a_restart() {
    let (fetched, _) = assert_whole(&[Act::Truncate(100_000), Act::IgnoreRange]);
    assert_eq!(fetched.downloaded, 100_000 + SIZE as u64);
    let (fetched, server) = assert_whole(&[Act::Truncate(100_000), Act::WrongRange, Act::Serve]);
    assert_eq!(fetched.attempts, 3);
    assert!(!server.requests.lock().unwrap()[2].contains("\r\nrange:"));
    assert_whole(&[Act::Truncate(100_000), Act::NoRange, Act::Serve]);
    // A part though the whole was asked for, always: given up, in words.
    let (result, ..) = run(&[Act::NoRange]);
    let error = result.unwrap_err();
    assert!(
        matches!(&error, FetchError::Interrupted { reason, .. } if reason.contains("the whole was asked for")),
        "{error}"
    );
}

#[test]
fn a_file_that_changed_on_the_server_starts_over() {
    let server = Server::start(vec![Act::Serve]);
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join(format!("{NAME}.part"));
    std::fs::write(&part, vec![7; 100_000]).unwrap();
    std::fs::write(dir.path().join(format!("{NAME}.part.tag")), "\"v0\"").unwrap();
    let fetched = fetch(&server.manifest(&sha256(&content())), &options(dir.path()), &mut |_| {}).unwrap();
    assert_eq!(fetched[0].downloaded, SIZE as u64);
    assert_eq!(std::fs::read(dir.path().join(NAME)).unwrap(), content());
}

#[test]
fn corrupt_bytes_are_removed_and_named() {
    let (result, _, dir) = run(&[Act::Corrupt]);
    let error = result.unwrap_err();
    assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // A complete but wrong unfinished file of an earlier run ends the same way, and the next call starts clean.
    let server = Server::start(vec![Act::Serve]);
    std::fs::write(dir.path().join(format!("{NAME}.part")), vec![1; SIZE]).unwrap();
    let manifest = server.manifest(&sha256(&content()));
    assert!(matches!(fetch(&manifest, &options(dir.path()), &mut |_| {}), Err(FetchError::Checksum { .. })));
    fetch(&manifest, &options(dir.path()), &mut |_| {}).unwrap();
    // An unfinished file longer than the archive is no beginning of it.
    std::fs::remove_file(dir.path().join(NAME)).unwrap();
    std::fs::write(dir.path().join(format!("{NAME}.part")), vec![1; SIZE + 1]).unwrap();
    fetch(&manifest, &options(dir.path()), &mut |_| {}).unwrap();
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    assert_whole(&[Act::Redirect("/elsewhere/archive.tar.gz"), Act::Serve]);
    let (result, ..) = run(&[Act::Redirect("/again")]);
    let error = result.unwrap_err();
    assert!(matches!(error, FetchError::Redirect { .. }), "{error}");
}

#[test]
fn web_pages_and_other_answers_are_not_archives() {
    for honest in [true, false] {
        let (result, _, dir) = run(&[Act::Page { honest }]);
        let error = result.unwrap_err();
        assert!(matches!(error, FetchError::WebPage { .. }), "{error}");
        assert!(!dir.path().join(NAME).exists());
        // A page in place of the rest leaves what came before as it was.
        let (result, _, dir) = run(&[Act::Truncate(100_000), Act::Page { honest: true }]);
        assert!(result.is_err());
        assert!(!dir.path().join(NAME).exists());
    }
    for status in [401, 403, 404, 410, 501] {
        let (result, ..) = run(&[Act::Status(status)]);
        let error = result.unwrap_err();
        assert!(matches!(error, FetchError::Status { status: s, .. } if s == status), "{error}");
    }
    let (result, ..) = run(&[Act::TooLong]);
    let error = result.unwrap_err();
    assert!(matches!(error, FetchError::Size { offered, .. } if offered == SIZE as u64 + 5), "{error}");
}

#[test]
fn without_known_size_or_checksum_the_answer_must_still_be_complete() {
    for acts in
        [vec![Act::Serve], vec![Act::Chunks { whole: true }], vec![Act::Chunks { whole: false }, Act::Serve]]
    {
        let server = Server::start(acts);
        let dir = tempfile::tempdir().unwrap();
        let manifest = server.manifest_of("\"unknown\"", "\"unknown\"");
        let fetched = fetch(&manifest, &options(dir.path()), &mut |_| {}).unwrap();
        assert!(!fetched[0].known);
        assert_eq!(std::fs::read(&fetched[0].path).unwrap(), content());
    }
    // All of it was there already: the server says that nothing is left.
    let server = Server::start(vec![Act::Serve]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(format!("{NAME}.part")), content()).unwrap();
    let manifest = server.manifest_of("\"unknown\"", "\"unknown\"");
    let fetched = fetch(&manifest, &options(dir.path()), &mut |_| {}).unwrap();
    assert_eq!((fetched[0].downloaded, fetched[0].bytes), (0, SIZE as u64));
}

#[test]
fn offline_mirror_space_and_rivals() {
    let server = Server::start(vec![Act::Serve]);
    let dir = tempfile::tempdir().unwrap();
    let nowhere = Server { address: "http://127.0.0.1:1".to_owned(), requests: Arc::default() };
    let manifest = nowhere.manifest(&sha256(&content()));
    let base = options(dir.path());
    let go = |options: &FetchOptions| fetch(&manifest, options, &mut |_| {});
    let error = go(&FetchOptions { offline: true, ..base.clone() }).unwrap_err();
    assert!(matches!(error, FetchError::Offline { .. }), "{error}");
    let error = go(&base).unwrap_err();
    assert!(matches!(error, FetchError::Interrupted { attempts: 3, done: 0, .. }), "{error}");
    let error =
        go(&FetchOptions { mirror: Some("no address at all".to_owned()), ..base.clone() }).unwrap_err();
    assert!(matches!(error, FetchError::Address { .. }), "{error}");

    let mirror = FetchOptions { mirror: Some(format!("{}/pub/", server.address)), ..base };
    let error = go(&FetchOptions { reserve: u64::MAX / 2, ..mirror.clone() }).unwrap_err();
    assert!(matches!(error, FetchError::Space { .. }), "{error}");
    let part = std::fs::File::create(dir.path().join(format!("{NAME}.part"))).unwrap();
    part.lock().unwrap();
    let error = go(&mirror).unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    drop(part);
    go(&mirror).unwrap();
    assert!(server.requests.lock().unwrap()[0].starts_with("get /pub/archive.tar.gz "));

    let kws = Manifest::named("mlperf_tiny_kws01").unwrap();
    let error = fetch(&kws, &options(dir.path()), &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::NotOffered { .. }), "{error}");
}
