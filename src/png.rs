//! Converts pictures from PPM, which every QEMU writes, to PNG without compression. Pure.
//!
//! PNG is ISO/IEC 15948 (<https://www.w3.org/TR/png/>), its data RFC 1950 and 1951, PPM is
//! ppm(5) of Netpbm.

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Length, type, content and checksum of the chunk that ends every file.
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
/// The limit of width and height. QEMU's surfaces are smaller, and within it the sum of all bytes
/// cannot overflow.
const SIDE_MAX: u32 = 32_767;
const BYTES_PER_PIXEL: usize = 3;
/// The most bytes of a stored block (RFC 1951, 3.2.4).
const BLOCK_BYTES_MAX: usize = 0xffff;

/// Width and height of a PNG that is complete.
pub(crate) fn size(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.strip_prefix(SIGNATURE)?.get(4..)?.strip_prefix(b"IHDR")?;
    let (width, rest) = header.split_first_chunk()?;
    let (height, _) = rest.split_first_chunk()?;
    png.ends_with(END).then(|| (u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

/// Converts a picture from PPM to PNG; `None` if it is incomplete or not a PPM with three bytes a
/// pixel.
pub(crate) fn from_ppm(ppm: &[u8]) -> Option<Vec<u8>> {
    let (width, height, pixels) = read_ppm(ppm)?;
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // Eight bits a sample, RGB; not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    // Before each row is the number of its filter, here of none.
    let rows = pixels.chunks_exact(usize::try_from(width).ok()? * BYTES_PER_PIXEL);
    let rows = rows.flat_map(|row| [&[0], row].concat()).collect::<Vec<u8>>();
    let mut png = SIGNATURE.to_vec();
    for (name, content) in [(b"IHDR", header), (b"IDAT", zlib(&rows))] {
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

/// The bytes as a zlib stream of stored blocks.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    // A window of 32 KiB, the fastest algorithm, and check bits.
    let mut out = vec![0x78, 0x01];
    let blocks = bytes.chunks(BLOCK_BYTES_MAX);
    for (number, block) in (1..).zip(blocks.clone()) {
        let [low, high, ..] = block.len().to_le_bytes();
        out.extend([u8::from(number == blocks.len()), low, high, !low, !high]);
        out.extend(block);
    }
    out.extend(adler32(bytes).to_be_bytes());
    out
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

    #[test]
    fn stored_blocks() {
        assert_eq!(zlib(b"a"), b"\x78\x01\x01\x01\0\xfe\xffa\0\x62\0\x62");
        let two = zlib(&vec![7; BLOCK_BYTES_MAX + 2]);
        assert_eq!(two.len(), 2 + 5 + BLOCK_BYTES_MAX + 5 + 2 + 4);
        assert_eq!(two[2..8], [0, 0xff, 0xff, 0, 0, 7]);
        assert_eq!(two[7 + BLOCK_BYTES_MAX..14 + BLOCK_BYTES_MAX], [1, 2, 0, 0xfd, 0xff, 7, 7]);
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
