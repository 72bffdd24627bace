//! Small sound files of every format, from which tests and fuzzers start.
use std::io::Write;

/// A batch as Python 2's cPickle (protocol 2) writes CIFAR-10's: the same instructions in the same order.
pub fn pickled_batch(labels: &[u8], columns: usize, data: &[u8]) -> Vec<u8> {
    let mut out = Pickle { bytes: vec![0x80, 2, b'}'], slot: 0 };
    out.put();
    out.bytes.push(b'(');
    out.text(b"batch_label");
    out.text(b"training batch 1 of 5");
    out.text(b"labels");
    out.list(labels.len(), |out, i| out.int(i64::from(labels[i])));
    out.text(b"data");
    out.function("numpy.core.multiarray", "_reconstruct");
    out.function("numpy", "ndarray");
    out.int(0);
    out.op(0x85);
    out.text(b"b");
    out.op(0x87);
    out.op(b'R');
    out.bytes.push(b'(');
    out.int(1);
    out.int(labels.len() as i64);
    out.int(columns as i64);
    out.op(0x86);
    out.function("numpy", "dtype");
    out.text(b"u1");
    out.int(0);
    out.int(1);
    out.op(0x87);
    out.op(b'R');
    out.bytes.push(b'(');
    out.int(3);
    out.text(b"|");
    out.bytes.extend(b"NNN");
    out.int(-1);
    out.int(-1);
    out.int(0);
    out.op(b't');
    out.bytes.push(b'b');
    out.bytes.push(0x89);
    out.text(data);
    out.op(b't');
    out.bytes.push(b'b');
    out.text(b"filenames");
    out.list(labels.len(), |out, i| out.text(format!("name_s_{i:06}.png").as_bytes()));
    out.bytes.extend(b"u.");
    out.bytes
}

struct Pickle {
    bytes: Vec<u8>,
    slot: u32,
}

impl Pickle {
    /// Puts what was just made into the memo, as cPickle does with everything that is not a number.
    fn put(&mut self) {
        self.slot += 1;
        match u8::try_from(self.slot) {
            Ok(slot) => self.bytes.extend([b'q', slot]),
            Err(_) => {
                self.bytes.push(b'r');
                self.bytes.extend(self.slot.to_le_bytes());
            }
        }
    }

    fn op(&mut self, code: u8) {
        self.bytes.push(code);
        self.put();
    }

    fn text(&mut self, text: &[u8]) {
        match u8::try_from(text.len()) {
            Ok(length) => self.bytes.extend([b'U', length]),
            Err(_) => {
                self.bytes.push(b'T');
                self.bytes.extend((text.len() as u32).to_le_bytes());
            }
        }
        self.bytes.extend(text);
        self.put();
    }

    fn int(&mut self, n: i64) {
        match n {
            0..=255 => self.bytes.extend([b'K', n as u8]),
            256..=65_535 => {
                self.bytes.push(b'M');
                self.bytes.extend((n as u16).to_le_bytes());
            }
            _ => {
                self.bytes.push(b'J');
                self.bytes.extend((n as i32).to_le_bytes());
            }
        }
    }

    fn function(&mut self, module: &str, name: &str) {
        self.bytes.push(b'c');
        self.bytes.extend(format!("{module}\n{name}\n").bytes());
        self.put();
    }

    /// Items in groups of a thousand.
    fn list(&mut self, n: usize, item: impl Fn(&mut Self, usize)) {
        self.op(b']');
        for start in (0..n).step_by(1000) {
            self.bytes.push(b'(');
            (start..n.min(start + 1000)).for_each(|i| item(self, i));
            self.bytes.push(b'e');
        }
    }
}

/// A MATLAB 5 file of the given variables (name, axes, bytes), each compressed or not.
pub fn mat_file(variables: &[(&str, &[u32], &[u8])], compressed: bool) -> Vec<u8> {
    let mut out = b"MATLAB 5.0 MAT-file".to_vec();
    out.resize(124, b' ');
    out.extend([0, 1, b'I', b'M']);
    for (name, shape, data) in variables {
        let mut body = Vec::new();
        element(&mut body, 6, &[9, 0, 0, 0, 0, 0, 0, 0]);
        element(&mut body, 5, &shape.iter().flat_map(|axis| axis.to_le_bytes()).collect::<Vec<_>>());
        // Names this short are stored beside their tag.
        let mut small = [1, 0, name.len() as u8, 0, 0, 0, 0, 0];
        small[4..4 + name.len()].copy_from_slice(name.as_bytes());
        body.extend(small);
        element(&mut body, 2, data);
        let mut matrix = Vec::new();
        element(&mut matrix, 14, &body);
        if compressed {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            // Writing to memory does not fail.
            let packed = zlib.write_all(&matrix).and_then(|()| zlib.finish()).unwrap_or_default();
            out.extend(15u32.to_le_bytes());
            out.extend((packed.len() as u32).to_le_bytes());
            out.extend(packed);
        } else {
            out.extend(matrix);
        }
    }
    out
}

fn element(out: &mut Vec<u8>, kind: u32, content: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(content);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// A WAV file of 16-bit mono samples at 16 kHz.
pub fn wav(samples: &[i16]) -> Vec<u8> {
    let size = 2 * samples.len() as u32;
    let mut out = b"RIFF".to_vec();
    out.extend((36 + size).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    out.extend([1, 0, 1, 0]);
    out.extend(16_000u32.to_le_bytes());
    out.extend(32_000u32.to_le_bytes());
    out.extend([2, 0, 16, 0]);
    out.extend(b"data");
    out.extend(size.to_le_bytes());
    samples.iter().for_each(|sample| out.extend(sample.to_le_bytes()));
    out
}

/// A FLAC file of one verbatim frame of at most 65,535 samples, announcing `declared` samples.
pub fn flac(rate: u32, channels: u8, declared: u64, samples: &[i16]) -> Vec<u8> {
    let n = samples.len() as u16;
    let mut out = b"fLaC".to_vec();
    out.extend([0x80, 0, 0, 34]);
    out.extend(n.to_be_bytes());
    out.extend(n.to_be_bytes());
    out.extend([0; 6]);
    let packed =
        u64::from(rate) << 44 | u64::from(channels - 1) << 41 | 15 << 36 | (declared & 0xF_FFFF_FFFF);
    out.extend(packed.to_be_bytes());
    out.extend([0; 16]);
    let frame = out.len();
    // Fixed block size given as 16 bits, rate from the stream information, 16 bits, frame number 0.
    out.extend([0xFF, 0xF8, 0x70, (channels - 1) << 4 | 0x08, 0]);
    out.extend(n.wrapping_sub(1).to_be_bytes());
    let crc8 = out[frame..].iter().fold(0u8, |crc, &byte| {
        (0..8).fold(crc ^ byte, |c, _| if c & 0x80 != 0 { c << 1 ^ 0x07 } else { c << 1 })
    });
    out.push(crc8);
    for _ in 0..channels {
        out.extend([0x02]);
        samples.iter().for_each(|sample| out.extend(sample.to_be_bytes()));
    }
    let crc16 = out[frame..].iter().fold(0u16, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |c, _| if c & 0x8000 != 0 { c << 1 ^ 0x8005 } else { c << 1 })
    });
    out.extend(crc16.to_be_bytes());
    out
}

/// A gzipped tar of the given files.
pub fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Writing to memory does not fail, and the names are short.
        let _ = tar.append_data(&mut header, name, *bytes);
    }
    tar.into_inner().and_then(flate2::write::GzEncoder::finish).unwrap_or_default()
}
