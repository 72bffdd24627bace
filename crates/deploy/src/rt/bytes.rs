//! Little-endian reads that cannot leave their slice.

/// A position in a byte slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Everything, whatever the position.
    pub(super) fn image(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = slice(self.bytes, self.at, len)?;
        self.at += len;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// A size or offset.
    pub(super) fn size(&mut self) -> Option<usize> {
        self.u32().and_then(|v| usize::try_from(v).ok())
    }

    /// The bytes of the image an (offset, length) pair names, with the offset read here.
    pub(super) fn blob(&mut self, len: usize) -> Option<&'a [u8]> {
        let at = self.size()?;
        slice(self.bytes, at, len)
    }
}

/// `len` bytes from `at`.
pub(super) fn slice(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

/// Element `i` of a table of `i32`; 0 outside.
pub(super) fn i32_at(table: &[u8], i: usize) -> i32 {
    match table.get(4 * i..4 * i + 4) {
        Some(b) => i32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        None => 0,
    }
}

/// Element `i` of a table of `i64`; 0 outside.
pub(super) fn i64_at(table: &[u8], i: usize) -> i64 {
    match table.get(8 * i..8 * i + 8) {
        Some(b) => i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        None => 0,
    }
}
