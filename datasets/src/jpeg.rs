//! Whether a JPEG file holds the whole of its image. Decoders fill in what a broken download lacks, so that a picture
//! with a grey half is learned from or classified without a word; what makes libjpeg warn of a premature end is an
//! error here.
//!
//! The codes of every scan are read and counted, which takes about half as long as decoding. Files with
//! arithmetic codes, lossless ones and those that say their height at the end are left to the decoder.

/// Bits that are looked up at once.
const LOOKUP: u32 = 9;

/// Most blocks of a progressive file whose coefficients are followed; larger ones are left to the decoder.
const MOST_BLOCKS: usize = 1 << 22;

const TOO_SHORT: &str = "it is cut short: image data end before the image does";
const NO_END: &str = "it is cut short: no end-of-image marker follows the image data";
const DAMAGED: &str = "its image data are damaged: a code is in none of its tables";
const HEADERS: &str = "its headers are damaged";

/// What a JPEG file lacks; none if it is whole, or no JPEG file.
#[must_use]
pub fn jpeg_problem(file: &[u8]) -> Option<&'static str> {
    if !file.starts_with(&[0xff, 0xd8]) {
        return None;
    }
    Scanner { file, at: 2, frame: None, restart: 0, dc: Default::default(), ac: Default::default() }.problem()
}

/// Whether an end-of-image marker follows the last start of image data; inside of image data the two do not occur.
fn has_end(file: &[u8]) -> bool {
    let last = |marker: u8| file.windows(2).rposition(|pair| pair == [0xff, marker]);
    let (start, end) = (last(0xda), last(0xd9));
    end.is_some() && start < end
}

/// A table of Huffman codes.
#[derive(Clone)]
struct Codes {
    /// Symbol and length by the next bits; length 0 where the code is longer or there is none.
    short: [(u8, u8); 1 << LOOKUP],
    /// By length: one more than the last code of that length, and what to add to a code to get its symbol's place.
    long: [(i32, i32); 17],
    symbols: Vec<u8>,
}

impl Codes {
    fn new(counts: &[u8], symbols: &[u8]) -> Self {
        let (mut short, mut long) = ([(0, 0); 1 << LOOKUP], [(0, 0); 17]);
        let (mut code, mut place) = (0_i32, 0_usize);
        for (length, count) in (1_u32..).zip(counts) {
            long[length as usize].1 = place as i32 - code;
            for _ in 0..*count {
                if let (true, Some(symbol)) = (length <= LOOKUP, symbols.get(place)) {
                    let first = (code as usize) << (LOOKUP - length);
                    let same = first..(first + (1 << (LOOKUP - length))).min(short.len());
                    short[same.start.min(same.end)..same.end].fill((*symbol, length as u8));
                }
                code += 1;
                place += 1;
            }
            long[length as usize].0 = code;
            code <<= 1;
        }
        Self { short, long, symbols: symbols.to_vec() }
    }
}

/// A component of the image.
#[derive(Clone)]
struct Component {
    id: u8,
    /// Blocks in an MCU, across and down.
    sampling: [usize; 2],
    /// Blocks across and down, without those that only fill up the last MCUs.
    blocks: [usize; 2],
    /// Blocks across with them.
    stride: usize,
    /// By block, which coefficients are not zero so far; only in progressive files.
    history: Vec<u64>,
    seen: bool,
}

struct Frame {
    progressive: bool,
    components: Vec<Component>,
    /// MCUs across and down.
    mcus: [usize; 2],
}

struct Scanner<'a> {
    file: &'a [u8],
    at: usize,
    frame: Option<Frame>,
    /// MCUs between restart markers; 0: there are none.
    restart: usize,
    dc: [Option<Codes>; 4],
    ac: [Option<Codes>; 4],
}

/// Why reading stops early.
enum Stop {
    /// The file is broken.
    Broken(&'static str),
    /// It is of a kind that is not looked into.
    Unknown,
}

impl Scanner<'_> {
    fn problem(mut self) -> Option<&'static str> {
        loop {
            match self.segment() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(Stop::Unknown) => return (!has_end(self.file)).then_some(NO_END),
                Err(Stop::Broken(why)) => return Some(why),
            }
        }
    }

    /// Reads up to the end of the next segment and of the image data after it; whether there may be more.
    fn segment(&mut self) -> Result<bool, Stop> {
        let marker = self.marker()?;
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            return Ok(true);
        }
        if marker == 0xd9 {
            let seen = |frame: &Frame| frame.components.iter().all(|component| component.seen);
            return match self.frame.as_ref().is_none_or(seen) {
                true => Ok(false),
                false => Err(Stop::Broken(TOO_SHORT)),
            };
        }
        let length = self.file.get(self.at..).and_then(<[u8]>::first_chunk).map(|length| u16::from_be_bytes(*length));
        let end = length.map(|length| self.at + usize::from(length)).filter(|end| *end >= self.at + 2);
        let body = end.and_then(|end| self.file.get(self.at + 2..end)).ok_or(Stop::Broken(HEADERS))?;
        self.at += body.len() + 2;
        match marker {
            0xc4 => self.tables(body)?,
            0xc0..=0xc2 => self.frame = Some(frame(body, marker == 0xc2)?),
            0xc3 | 0xc5..=0xcb | 0xcd..=0xcf => return Err(Stop::Unknown),
            0xdd => self.restart = body.first_chunk().map_or(0, |every| u16::from_be_bytes(*every).into()),
            0xda => self.scan(body)?,
            _ => {}
        }
        Ok(true)
    }

    /// The next marker, past anything else.
    fn marker(&mut self) -> Result<u8, Stop> {
        let rest = self.file.get(self.at..).unwrap_or_default();
        let at = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff));
        let at = at.ok_or(Stop::Broken(NO_END))?;
        self.at += at + 2;
        Ok(rest[at + 1])
    }

    fn tables(&mut self, mut body: &[u8]) -> Result<(), Stop> {
        while let Some((&kind, rest)) = body.split_first() {
            let (counts, rest) = rest.split_at_checked(16).ok_or(Stop::Broken(HEADERS))?;
            let symbols = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(symbols).ok_or(Stop::Broken(HEADERS))?;
            let tables = if kind & 0x10 == 0 { &mut self.dc } else { &mut self.ac };
            let place = tables.get_mut(usize::from(kind & 0x0f)).ok_or(Stop::Broken(HEADERS))?;
            *place = Some(Codes::new(counts, symbols));
            body = rest;
        }
        Ok(())
    }

    /// Reads all codes of a scan.
    fn scan(&mut self, header: &[u8]) -> Result<(), Stop> {
        let frame = self.frame.as_mut().ok_or(Stop::Broken(HEADERS))?;
        let (&count, rest) = header.split_first().ok_or(Stop::Broken(HEADERS))?;
        let (chosen, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(Stop::Broken(HEADERS))?;
        let &[first, last, approximation, ..] = rest else { return Err(Stop::Broken(HEADERS)) };
        let (first, last) = if frame.progressive { (first, last) } else { (0, 63) };
        let refines = frame.progressive && approximation >> 4 > 0;
        if last > 63 || first > last || count == 0 {
            return Err(Stop::Broken(HEADERS));
        }
        let mut parts = Vec::new();
        for pair in chosen.chunks_exact(2) {
            let place = frame.components.iter().position(|component| component.id == pair[0]);
            let place = place.ok_or(Stop::Broken(HEADERS))?;
            frame.components[place].seen |= first == 0;
            parts.push((place, usize::from(pair[1] >> 4 & 3), usize::from(pair[1] & 3)));
        }
        let alone = parts.len() == 1;
        let [across, down] = match parts.as_slice() {
            [(place, ..)] => frame.components[*place].blocks,
            _ => frame.mcus,
        };
        let mut bits = Bits { file: self.file, at: self.at, buffer: 0, held: 0, lacking: 0 };
        let mut pass = Pass { first, last, refines, progressive: frame.progressive, skipped_blocks: 0 };
        for mcu in 0..across * down {
            if self.restart > 0 && mcu > 0 && mcu % self.restart == 0 {
                bits.restart()?;
                pass.skipped_blocks = 0;
            }
            let (x, y) = (mcu % across, mcu / across);
            for (place, dc, ac) in &parts {
                let component = &mut frame.components[*place];
                let [h, v] = if alone { [1, 1] } else { component.sampling };
                for block in 0..h * v {
                    let at = (y * v + block / h) * component.stride + x * h + block % h;
                    let known = component.history.get_mut(at);
                    let mut unknown = 0;
                    let known = known.unwrap_or(&mut unknown);
                    pass.block(&mut bits, self.dc[*dc].as_ref(), self.ac[*ac].as_ref(), known)?;
                }
            }
            if bits.lacking > 0 {
                return Err(Stop::Broken(TOO_SHORT));
            }
        }
        self.at = bits.at;
        Ok(())
    }
}

fn frame(body: &[u8], progressive: bool) -> Result<Frame, Stop> {
    let &[precision, h1, h0, w1, w0, count, ref rest @ ..] = body else { return Err(Stop::Broken(HEADERS)) };
    let (height, width) = (usize::from(u16::from_be_bytes([h1, h0])), usize::from(u16::from_be_bytes([w1, w0])));
    if precision != 8 || height == 0 || width == 0 {
        return Err(Stop::Unknown);
    }
    let fields: Vec<&[u8]> = rest.chunks_exact(3).take(count.into()).collect();
    let sides = |field: &[u8]| [usize::from(field[1] >> 4), usize::from(field[1] & 15)];
    if fields.len() != usize::from(count)
        || fields.iter().any(|field| sides(field).iter().any(|side| !(1..=4).contains(side)))
    {
        return Err(Stop::Broken(HEADERS));
    }
    let most = |axis: usize| fields.iter().map(|field| sides(field)[axis]).max().unwrap_or(1);
    let largest = [most(0), most(1)];
    let mcus = [width.div_ceil(8 * largest[0]), height.div_ceil(8 * largest[1])];
    let blocks: usize = fields.iter().map(|field| sides(field).iter().product::<usize>()).sum();
    if progressive && blocks * mcus[0] * mcus[1] > MOST_BLOCKS {
        return Err(Stop::Unknown);
    }
    let component = |field: &&[u8]| {
        let sampling = sides(field);
        let side = |axis: usize, size: usize| (size * sampling[axis]).div_ceil(largest[axis]).div_ceil(8);
        let stride = mcus[0] * sampling[0];
        let history = if progressive { vec![0; stride * mcus[1] * sampling[1]] } else { Vec::new() };
        Component { id: field[0], sampling, blocks: [side(0, width), side(1, height)], stride, history, seen: false }
    };
    Ok(Frame { progressive, components: fields.iter().map(component).collect(), mcus })
}

/// The coefficients that a scan is about.
struct Pass {
    first: u8,
    last: u8,
    refines: bool,
    progressive: bool,
    /// Blocks to come that are told to hold nothing new.
    skipped_blocks: u32,
}

impl Pass {
    /// Reads the codes of one block. `known` has a bit for every coefficient that is not zero.
    fn block(
        &mut self,
        bits: &mut Bits<'_>,
        dc: Option<&Codes>,
        ac: Option<&Codes>,
        known: &mut u64,
    ) -> Result<(), Stop> {
        let mut next = self.first;
        if next == 0 {
            match self.refines {
                true => bits.skip(1),
                false => drop(bits.coefficient(dc.ok_or(Stop::Broken(HEADERS))?)?),
            }
            next = 1;
        }
        if self.last == 0 {
            return Ok(());
        }
        let ac = ac.ok_or(Stop::Broken(HEADERS))?;
        match (self.progressive, self.refines) {
            (true, true) => self.refine(bits, ac, next, known),
            _ => self.coefficients(bits, ac, next, known),
        }
    }

    fn coefficients(&mut self, bits: &mut Bits<'_>, ac: &Codes, mut next: u8, known: &mut u64) -> Result<(), Stop> {
        if self.skipped_blocks > 0 {
            self.skipped_blocks -= 1;
            return Ok(());
        }
        while next <= self.last {
            let symbol = bits.coefficient(ac)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => next += 16,
                (run, 0) => {
                    // Only progressive files let one code speak of many blocks.
                    let run = if self.progressive { run } else { 0 };
                    self.skipped_blocks = (1 << run) - 1 + bits.take(run.into());
                    return Ok(());
                }
                (run, _) => {
                    next += run;
                    if next <= self.last {
                        *known |= 1 << next;
                    }
                    next += 1;
                }
            }
        }
        Ok(())
    }

    /// A further bit for every coefficient that is not zero, and coefficients that no longer are.
    fn refine(&mut self, bits: &mut Bits<'_>, ac: &Codes, mut next: u8, known: &mut u64) -> Result<(), Stop> {
        if self.skipped_blocks == 0 {
            while next <= self.last {
                let symbol = bits.symbol(ac)?;
                let (mut run, size) = (symbol >> 4, symbol & 15);
                if size == 0 && run < 15 {
                    self.skipped_blocks = (1 << run) + bits.take(run.into());
                    break;
                }
                if size > 0 {
                    bits.skip(1);
                }
                while next <= self.last {
                    match *known >> next & 1 {
                        1 => bits.skip(1),
                        _ if run == 0 => break,
                        _ => run -= 1,
                    }
                    next += 1;
                }
                if size > 0 && next <= self.last {
                    *known |= 1 << next;
                }
                next += 1;
            }
        }
        if self.skipped_blocks > 0 {
            let rest = (next..=self.last).filter(|at| *known >> at & 1 == 1).count();
            (0..rest).for_each(|_| bits.skip(1));
            self.skipped_blocks -= 1;
        }
        Ok(())
    }
}

/// The bits of image data up to the next marker.
struct Bits<'a> {
    file: &'a [u8],
    at: usize,
    /// The next bits, from the top.
    buffer: u64,
    held: u32,
    /// Bits that were asked for after the last.
    lacking: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        // Eight bytes at once, unless one of them may begin a marker.
        if let Some(word) = self.file.get(self.at..).and_then(<[u8]>::first_chunk).map(|word| u64::from_be_bytes(*word))
            && (!word).wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 == 0
        {
            self.buffer |= word >> self.held;
            let bytes = (64 - self.held) / 8;
            self.at += bytes as usize;
            self.held += 8 * bytes;
            return;
        }
        while self.held <= 56 {
            let byte = match (self.file.get(self.at), self.file.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => return,
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.held);
            self.held += 8;
        }
    }

    /// A symbol and the bits of the coefficient that it announces.
    #[inline]
    fn coefficient(&mut self, codes: &Codes) -> Result<u8, Stop> {
        if self.held < 32 {
            self.fill();
        }
        let (symbol, length) = codes.short[(self.buffer >> (64 - LOOKUP)) as usize];
        let bits = u32::from(length + (symbol & 15));
        if length > 0 && bits <= self.held {
            self.buffer <<= bits;
            self.held -= bits;
            return Ok(symbol);
        }
        let symbol = self.symbol(codes)?;
        self.skip((symbol & 15).into());
        Ok(symbol)
    }

    fn skip(&mut self, count: u32) {
        if count > self.held {
            self.fill();
        }
        self.lacking += count.saturating_sub(self.held);
        let count = count.min(self.held);
        self.buffer = self.buffer.checked_shl(count).unwrap_or(0);
        self.held -= count;
    }

    fn take(&mut self, count: u32) -> u32 {
        if count > self.held {
            self.fill();
        }
        let value = if count == 0 { 0 } else { (self.buffer >> (64 - count)) as u32 };
        self.skip(count);
        value
    }

    fn symbol(&mut self, codes: &Codes) -> Result<u8, Stop> {
        if self.held < 16 {
            self.fill();
        }
        let (symbol, length) = codes.short[(self.buffer >> (64 - LOOKUP)) as usize];
        if length > 0 {
            self.skip(length.into());
        } else {
            return self.long_symbol(codes);
        }
        match self.lacking {
            0 => Ok(symbol),
            _ => Err(Stop::Broken(TOO_SHORT)),
        }
    }

    fn long_symbol(&mut self, codes: &Codes) -> Result<u8, Stop> {
        for length in LOOKUP + 1..=16 {
            let code = (self.buffer >> (64 - length)) as i32;
            let (end, offset) = codes.long[length as usize];
            if code < end {
                let symbol = usize::try_from(code + offset).ok().and_then(|place| codes.symbols.get(place));
                self.skip(length);
                return match (self.lacking, symbol) {
                    (0, Some(symbol)) => Ok(*symbol),
                    (0, None) => Err(Stop::Broken(DAMAGED)),
                    _ => Err(Stop::Broken(TOO_SHORT)),
                };
            }
        }
        Err(Stop::Broken(if self.held < 16 { TOO_SHORT } else { DAMAGED }))
    }

    /// Goes on after the next restart marker.
    fn restart(&mut self) -> Result<(), Stop> {
        (self.buffer, self.held) = (0, 0);
        let rest = self.file.get(self.at..).unwrap_or_default();
        let at = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff));
        match at.map(|at| (at, rest[at + 1])) {
            Some((at, 0xd0..=0xd7)) => {
                self.at += at + 2;
                Ok(())
            }
            _ => Err(Stop::Broken(TOO_SHORT)),
        }
    }
}
