//! Our side of `cargo xtask peers`: says which works there are, and takes one sample whenever asked.
//!
//! The lines exchanged are described in `xtask/src/peers/worker.rs`; its Python twin is `xtask/peers/worker.py`.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};

/// A sample lasts at least this many seconds.
const SAMPLE: f64 = 0.02;

/// Takes one sample and returns it in the work's unit.
pub type Sampler = Box<dyn FnMut() -> f64>;

/// Something that can be timed.
pub struct Work {
    name: String,
    unit: &'static str,
    versus: String,
    prepare: Box<dyn Fn() -> Sampler>,
}

impl Work {
    /// A work compared with the peers' work `versus`; `prepare` makes what is made once. A unit that ends in `/s` is a
    /// rate (more is better), any other a time.
    pub fn new(
        name: impl Into<String>,
        unit: &'static str,
        versus: impl Into<String>,
        prepare: impl Fn() -> Sampler + 'static,
    ) -> Self {
        Self { name: name.into(), unit, versus: versus.into(), prepare: Box::new(prepare) }
    }
}

/// One implementation: ours, or a Rust peer's.
pub struct Peer {
    /// Its name in the table.
    pub name: &'static str,
    /// Its version, and which of its paths ran.
    pub version: String,
    /// What it can be timed on.
    pub works: Vec<Work>,
    /// For a peer: endings of our works it is to be compared with; empty means all.
    pub ours: &'static [&'static str],
}

/// A sampler of `amount` per second.
pub fn rate(amount: f64, call: impl FnMut() + 'static) -> Sampler {
    let mut seconds = seconds(call);
    Box::new(move || amount / seconds())
}

/// A sampler of milliseconds.
pub fn milliseconds(call: impl FnMut() + 'static) -> Sampler {
    let mut seconds = seconds(call);
    Box::new(move || 1e3 * seconds())
}

/// A sampler of milliseconds for a call long enough to be timed alone: a sample is one call, and no two need be alike.
pub fn milliseconds_of_one(mut call: impl FnMut() + 'static) -> Sampler {
    Box::new(move || {
        let start = Instant::now();
        call();
        1e3 * start.elapsed().as_secs_f64()
    })
}

/// Seconds of a call: enough turns for a sample, found at the first use.
fn seconds(mut call: impl FnMut() + 'static) -> impl FnMut() -> f64 {
    let mut turns = 0_u32;
    move || {
        if turns == 0 {
            call();
            let start = Instant::now();
            call();
            turns = (SAMPLE / start.elapsed().as_secs_f64().max(1e-7)).max(1.0) as u32;
        }
        let start = Instant::now();
        (0..turns).for_each(|_| call());
        start.elapsed().as_secs_f64() / f64::from(turns)
    }
}

/// Answers requests from standard input until it ends. The first peer is ours.
///
/// # Errors
/// Standard input or output fails, or a request is not a line of JSON.
pub fn serve(peers: &[Peer]) -> io::Result<()> {
    answer(peers, io::stdin().lock(), io::stdout().lock())
}

fn answer(peers: &[Peer], input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    for peer in peers {
        let work = |w: &Work| json!({ "work": w.name, "unit": w.unit, "versus": w.versus });
        let works: Vec<Value> = peer.works.iter().map(work).collect();
        let line = json!({ "peer": peer.name, "version": peer.version, "works": works, "ours": peer.ours });
        writeln!(output, "{line}")?;
    }
    writeln!(output, "{}", json!({ "ready": true }))?;
    output.flush()?;
    let mut prepared: HashMap<(String, String), Sampler> = HashMap::new();
    let mut subject = String::new();
    for line in input.lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let key = (text(&request["peer"]), text(&request["work"]));
        let work = peers
            .iter()
            .filter(|peer| peer.name == key.0)
            .flat_map(|peer| &peer.works)
            .find(|work| work.name == key.1);
        let line = match work {
            Some(work) => {
                // What faces another work is not asked for again: it would only fill memory.
                if work.versus != subject {
                    prepared.clear();
                    subject.clone_from(&work.versus);
                }
                json!({ "value": prepared.entry(key).or_insert_with(|| (work.prepare)())() })
            }
            None => json!({ "error": "no such work" }),
        };
        writeln!(output, "{line}")?;
        output.flush()?;
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Peer, Work, answer};

    #[test]
    fn answers_line_by_line() {
        let work = Work::new("w, ours", "GMAC/s", "w", || Box::new(|| 2.5));
        let peers = [Peer { name: "p", version: "1".into(), works: vec![work], ours: &[] }];
        let requests = "{\"peer\":\"p\",\"work\":\"w, ours\"}\n{\"peer\":\"p\",\"work\":\"w\"}\n";
        let mut output = Vec::new();
        answer(&peers, requests.as_bytes(), &mut output).expect("lines of JSON");
        let lines: Vec<serde_json::Value> =
            output.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        assert_eq!(lines[0]["works"][0]["versus"], "w");
        assert_eq!(lines[1]["ready"], true);
        assert_eq!(lines[2]["value"], 2.5);
        assert_eq!(lines[3]["error"], "no such work");
        assert!(answer(&peers, "no JSON\n".as_bytes(), &mut output).is_err());
    }
}
