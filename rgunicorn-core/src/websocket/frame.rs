//! Frames (RFC 6455 section 5.2): heads read and written, masks taken off.

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }

    pub(super) fn is_control(self) -> bool {
        self.bits() & 0x8 != 0
    }
}

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) last: bool,
    /// RSV1: with permessage-deflate, that the message is compressed.
    pub(super) compressed: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    pub(super) length: u64,
    /// How many bytes the head itself takes.
    pub(super) size: usize,
}

/// Reads a client's frame head; none if there is more of it to come.
///
/// # Errors
/// What is wrong with it, for the close frame.
pub(super) fn read(bytes: &[u8], compression: bool) -> Result<Option<Head>, &'static str> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (last, rsv, masked) = (first & 0x80 != 0, first & 0x70, second & 0x80 != 0);
    let opcode = Opcode::from_bits(first & 0xf).ok_or("unknown opcode")?;
    let compressed =
        rsv == 0x40 && compression && !matches!(opcode, Opcode::Continuation) && !opcode.is_control();
    if rsv != 0 && !compressed {
        return Err("reserved bits without an extension");
    }
    if !masked {
        return Err("a client's frames must be masked");
    }
    let short = second & 0x7f;
    if opcode.is_control() && (!last || short > 125) {
        return Err("a control frame must be short and in one piece");
    }
    let (length, size) = match short {
        126 => match rest {
            [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            _ => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    if (size == 2 && length < 126) || (size == 8 && length <= u64::from(u16::MAX)) {
        return Err("a length in more bytes than it needs");
    }
    if length > i64::MAX as u64 {
        return Err("a length beyond all measure");
    }
    let Some(mask) = rest.get(size..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
    Ok(Some(Head { last, compressed, opcode, mask: *mask, length, size: 2 + size + 4 }))
}

/// Writes the head of a whole message, or of a control frame, to a client: without a mask.
pub(super) fn write(out: &mut Vec<u8>, opcode: Opcode, compressed: bool, length: usize) {
    out.push(0x80 | if compressed { 0x40 } else { 0 } | opcode.bits());
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Takes a mask off, or puts it on. `offset` says how many bytes of the frame came before.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut mask = mask;
    mask.rotate_left((offset % 4) as usize);
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_comes() {
        let bytes = [0x81, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end], false), Ok(None), "{end}");
        }
        let head = read(&bytes, false).unwrap().unwrap();
        assert_eq!((head.length, head.size, head.mask, head.last), (256, 8, [1, 2, 3, 4], true));
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        for bytes in [
            &[0x83, 0x80, 0, 0, 0, 0][..],
            &[0xc1, 0x80, 0, 0, 0, 0],
            &[0x91, 0x80, 0, 0, 0, 0],
            &[0x81, 0x00],
            &[0x09, 0x80, 0, 0, 0, 0],
            &[0x89, 0xfe, 0, 126],
            &[0x81, 0xfe, 0, 125, 0, 0, 0, 0],
            &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
            &[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        ] {
            assert!(read(bytes, false).is_err(), "{bytes:?}");
        }
        assert!(read(&[0xc1, 0x80, 0, 0, 0, 0], true).unwrap().unwrap().compressed);
        // Only the first frame of a message, and no control frame, says that it is compressed.
        assert!(read(&[0xc0, 0x80, 0, 0, 0, 0], true).is_err());
        assert!(read(&[0xc9, 0x80, 0, 0, 0, 0], true).is_err());
    }

    #[test]
    fn a_mask_comes_off_in_pieces_of_any_size() {
        let plain: Vec<u8> = (0..100).collect();
        let mask = [7, 11, 13, 17];
        let mut whole = plain.clone();
        unmask(&mut whole, mask, 0);
        for cut in 0..plain.len() {
            let mut pieces = whole.clone();
            let (one, two) = pieces.split_at_mut(cut);
            unmask(one, mask, 0);
            unmask(two, mask, cut as u64);
            assert_eq!(pieces, plain, "{cut}");
        }
    }
}
