//! Converts pictures from PPM, which every QEMU writes, to PNG. Pure.
//!
//! PNG is ISO/IEC 15948 (<https://www.w3.org/TR/png/>), its compression RFC 1950 and 1951, PPM is
//! ppm(5) of Netpbm.

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Length, type, content and checksum of the chunk that ends every file.
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
/// The limit of width and height. QEMU's surfaces are smaller, and within it the sum of all bytes
/// cannot overflow.
const SIDE_MAX: u32 = 32_767;
const BYTES_PER_PIXEL: usize = 3;

/// Width and height of a PNG that is complete.
pub(crate) fn size(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.strip_prefix(SIGNATURE)?.get(4..)?.strip_prefix(b"IHDR")?;
    let (width, rest) = header.split_first_chunk()?;
    let (height, _) = rest.split_first_chunk()?;
    png.ends_with(END).then(|| (u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

/// Converts a picture from PPM to PNG; `None` if it is incomplete or no PPM with three bytes a
/// pixel.
pub(crate) fn from_ppm(ppm: &[u8]) -> Option<Vec<u8>> {
    let (width, height, pixels) = read_ppm(ppm)?;
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // Eight bits a sample, RGB; deflate, filtered by rows, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    let row_bytes = usize::try_from(width).ok()? * BYTES_PER_PIXEL;
    let mut png = SIGNATURE.to_vec();
    for (name, content) in [(b"IHDR", header), (b"IDAT", zlib(&filtered(pixels, row_bytes)))] {
        png.extend(u32::try_from(content.len()).ok()?.to_be_bytes());
        let start = png.len();
        png.extend(name);
        png.extend(content);
        let sum = crc32(&png[start..]);
        png.extend(sum.to_be_bytes());
    }
    png.extend(END);
    Some(png)
}

/// Reads width, height and the bytes of all rows.
fn read_ppm(ppm: &[u8]) -> Option<(u32, u32, &[u8])> {
    let mut rest = ppm.strip_prefix(b"P6")?;
    let mut numbers = [0_u32; 3];
    for number in &mut numbers {
        loop {
            rest = rest.trim_ascii_start();
            let Some(comment) = rest.strip_prefix(b"#") else { break };
            rest = &comment[comment.iter().position(|byte| *byte == b'\n')?..];
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        *number = str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        rest = &rest[digits..];
    }
    let [width, height, samples_max] = numbers;
    let pixels = rest.get(1..)?;
    let is_picture = [width, height].iter().all(|side| (1..=SIDE_MAX).contains(side));
    let bytes = usize::try_from(u64::from(width) * u64::from(height)).ok()? * BYTES_PER_PIXEL;
    (is_picture && samples_max == 255 && pixels.len() == bytes).then_some((width, height, pixels))
}

/// Replaces each row by its difference to the row above, which is zero for most of a screen, and
/// puts the number of that filter, `Up`, before it.
fn filtered(pixels: &[u8], row_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() + pixels.len() / row_bytes);
    let mut above = vec![0; row_bytes];
    for row in pixels.chunks_exact(row_bytes) {
        out.push(2);
        out.extend(row.iter().zip(&above).map(|(byte, above)| byte.wrapping_sub(*above)));
        above.copy_from_slice(row);
    }
    out
}

/// Compresses to one block with the fixed codes of RFC 1951, 3.2.6, in which runs of a byte are
/// short.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    // A window of 32 KiB, the fastest algorithm, and check bits that make both bytes a multiple of
    // 31.
    let mut out = Bits { bytes: vec![0x78, 0x01], free: 0 };
    // The last block, with fixed codes.
    out.push(0b011, 3);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let run = bytes[at + 1..].iter().take(RUN_MAX).take_while(|next| *next == byte).count();
        out.push_code(u16::from(*byte));
        if run >= RUN_MIN {
            out.push_run(run);
            at += run;
        }
        at += 1;
    }
    out.push_code(END_OF_BLOCK);
    out.bytes.extend(adler32(bytes).to_be_bytes());
    out.bytes
}

const END_OF_BLOCK: u16 = 256;
const RUN_MIN: usize = 3;
const RUN_MAX: usize = 258;

/// A stream of bits that fills each byte from its lowest bit.
struct Bits {
    bytes: Vec<u8>,
    /// The number of bits of the last byte that are still unused.
    free: u8,
}

impl Bits {
    /// Appends the lowest `count` bits of `value`, the lowest first.
    fn push(&mut self, value: usize, count: u8) {
        for bit in 0..count {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(value >> bit & 1 == 1) << (8 - self.free);
            }
            self.free -= 1;
        }
    }

    /// Appends the code of a literal byte, a length or [`END_OF_BLOCK`]. Codes have their highest
    /// bit first.
    fn push_code(&mut self, symbol: u16) {
        let (code, length) = match symbol {
            0..=143 => (0x30 + symbol, 8),
            144..=255 => (0x190 + symbol - 144, 9),
            256..=279 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        self.push(usize::from(code.reverse_bits() >> (16 - length)), length);
    }

    /// Appends the last byte again, `run` times: a length and the distance 1. Up to 8, each length
    /// has a code of its own; above that, four codes share the lengths with the same highest bit,
    /// and `more` bits follow.
    fn push_run(&mut self, run: usize) {
        let length = run - RUN_MIN;
        let more = u8::try_from(length.max(4).ilog2() - 2).unwrap_or_default();
        match u16::try_from(length >> more) {
            Ok(high) if run < RUN_MAX => self.push_code(257 + 4 * u16::from(more) + high),
            _ => self.push_code(285),
        }
        if run < RUN_MAX {
            self.push(length, more);
        }
        self.push(0, 5);
    }
}

/// The Adler-32 checksum (RFC 1950, 8.2): sums of bytes modulo the largest prime below 65,536.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut sum, mut sum_of_sums) = (1_u32, 0_u32);
    for byte in bytes {
        sum = (sum + u32::from(*byte)) % 65_521;
        sum_of_sums = (sum_of_sums + sum) % 65_521;
    }
    sum_of_sums << 16 | sum
}

/// The CRC-32 of annex D of the PNG specification.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b"IEND").to_be_bytes(), END[8..]);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(b""), 1);
    }

    /// Reads back what [`zlib`] writes: fixed codes, and runs of the last byte.
    fn unpacked(zlib: &[u8]) -> Vec<u8> {
        let mut at = 16;
        let mut bit = || {
            at += 1;
            usize::from(zlib[(at - 1) / 8] >> ((at - 1) % 8) & 1)
        };
        assert_eq!([bit(), bit(), bit()], [1, 1, 0]);
        let mut out: Vec<u8> = Vec::new();
        loop {
            let mut code = (0..7).fold(0, |code, _| code << 1 | bit());
            let symbol = if code <= 0b001_0111 {
                256 + code
            } else {
                code = code << 1 | bit();
                match code {
                    0x30..=0xbf => code - 0x30,
                    0xc0..=0xc7 => 280 + code - 0xc0,
                    _ => 144 + (code << 1 | bit()) - 0x190,
                }
            };
            if symbol == 256 {
                break;
            }
            if let Ok(byte) = u8::try_from(symbol) {
                out.push(byte);
                continue;
            }
            // The table of RFC 1951, 3.2.5.
            let (shortest, more) = match symbol {
                257..=264 => (symbol - 254, 0),
                285 => (258, 0),
                _ => (3 + ((4 + (symbol - 261) % 4) << ((symbol - 261) / 4)), (symbol - 261) / 4),
            };
            let run = shortest + (0..more).map(|at| bit() << at).sum::<usize>();
            assert_eq!((0..5).map(|_| bit()).sum::<usize>(), 0);
            out.extend(vec![*out.last().unwrap(); run]);
        }
        assert_eq!(zlib[zlib.len() - 4..], adler32(&out).to_be_bytes());
        out
    }

    #[test]
    fn bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        let runs: Vec<u8> =
            (0..600_usize).flat_map(|run| vec![u8::try_from(run % 256).unwrap(); run]).collect();
        for bytes in [&b""[..], b"a", b"aaa", b"aaaa", &all, &runs] {
            assert_eq!(unpacked(&zlib(bytes)), bytes);
        }
        assert!(zlib(&vec![0; 100_000]).len() < 1100);
    }

    #[test]
    fn a_ppm_becomes_a_png() {
        let png = from_ppm(b"P6\n# made\n2 3\n255\naaabbbcccdddeeefff").unwrap();
        assert_eq!(size(&png), Some((2, 3)));
        assert_eq!(size(&png[..png.len() - 1]), None);
        for bad in [
            &b"P6 2 1 255\naaabb"[..],
            b"P6 2 1 255\naaabbbc",
            b"P6 1 1 65535\naaaaaa",
            b"P6 0 1 255\n",
            b"P6 4294967296 1 255\n",
            b"P6 2 1 255",
            b"P6 #",
            b"P5 1 1 255\na",
            b"",
        ] {
            assert_eq!(from_ppm(bad), None);
        }
    }
}
