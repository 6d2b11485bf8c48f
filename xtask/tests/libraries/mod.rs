//! Libraries with nothing in them but their records, as each system writes them.

/// One to be made.
#[derive(Clone, Default)]
pub struct Library {
    /// The soname, the install name, or the DLL's name.
    pub name: String,
    pub needs: Vec<String>,
    /// The folder in which it has them looked for. (DLLs have no such record.)
    pub looks_in: String,
    pub defines: Vec<String>,
}

pub const X86_64: u16 = 62;
pub const AARCH64: u16 = 183;

/// Linux's, for the `machine` of that number.
pub fn elf(library: &Library, machine: u16) -> Vec<u8> {
    let mut strings = Strings::new();
    let mut symbols = Bytes::default();
    symbols.zeros(24);
    for name in &library.defines {
        // Global, a function, in section 1.
        symbols.u32(strings.add(name)).u8(0x12).u8(0).u16(1).u64(0x1000).u64(4);
    }
    let mut dynamic = Bytes::default();
    for name in &library.needs {
        dynamic.u64(1).u64(strings.add(name).into());
    }
    dynamic.u64(14).u64(strings.add(&library.name).into());
    dynamic.u64(15).u64(strings.add(&library.looks_in).into());
    dynamic.zeros(16);
    let names = b"\0.dynsym\0.dynstr\0.dynamic\0.shstrtab\0";

    const HEADER: u64 = 64;
    // Name, type, content, the section with its strings, the first global symbol, the length of an entry.
    type Section<'a> = (u32, u32, &'a [u8], u32, u32, u64);
    let sections: [Section; 4] = [
        (1, 11, &symbols.0, 2, 1, 24),
        (9, 3, &strings.0, 0, 0, 0),
        (17, 6, &dynamic.0, 2, 0, 16),
        (26, 3, names, 0, 0, 0),
    ];
    let content: usize = sections.iter().map(|section| section.2.len()).sum();
    let mut file = Bytes::default();
    file.raw(b"\x7fELF\x02\x01\x01").zeros(9).u16(3).u16(machine).u32(1).u64(0).u64(0);
    file.u64(HEADER + content as u64).u32(0).u16(64).u16(56).u16(0).u16(64).u16(5).u16(4);
    for section in &sections {
        file.raw(section.2);
    }
    file.zeros(64);
    let mut offset = HEADER;
    for (name, kind, content, link, info, entry) in sections {
        let length = content.len() as u64;
        file.u32(name).u32(kind).u64(2).u64(offset).u64(offset).u64(length);
        file.u32(link).u32(info).u64(1).u64(entry);
        offset += length;
    }
    file.0
}

/// macOS's, for ARM.
pub fn macho(library: &Library) -> Vec<u8> {
    const ID: u32 = 0xd;
    const LOAD: u32 = 0xc;
    const RPATH: u32 = 0x8000_001c;
    const SYMTAB: u32 = 2;

    // A string after the fixed part of a command, filled up to a multiple of eight.
    let with_string = |kind: u32, fixed: &[u32], string: &str| {
        let start = 12 + 4 * fixed.len();
        let length = (start + string.len() + 1).next_multiple_of(8);
        let mut command = Bytes::default();
        command.u32(kind).u32(length as u32).u32(start as u32);
        for number in fixed {
            command.u32(*number);
        }
        command.raw(string.as_bytes());
        command.0.resize(length, 0);
        command.0
    };
    let mut commands = vec![with_string(ID, &[0; 3], &library.name)];
    commands.extend(library.needs.iter().map(|name| with_string(LOAD, &[0; 3], name)));
    commands.push(with_string(RPATH, &[], &library.looks_in));

    let mut strings = Strings::new();
    let mut symbols = Bytes::default();
    for name in &library.defines {
        // External, and not in a section.
        symbols.u32(strings.add(&format!("_{name}"))).u8(0x03).u8(0).u16(0).u64(0x1000);
    }
    let length = commands.concat().len() + 24;
    let start = 32 + length as u32;
    let (n, symbols_length) = (library.defines.len() as u32, symbols.0.len() as u32);
    let mut symtab = Bytes::default();
    symtab.u32(SYMTAB).u32(24).u32(start).u32(n);
    symtab.u32(start + symbols_length).u32(strings.0.len() as u32);
    commands.push(symtab.0);

    let mut file = Bytes::default();
    file.u32(0xfeed_facf).u32(0x0100_000c).u32(0).u32(6);
    file.u32(commands.len() as u32).u32(length as u32).u32(0).u32(0);
    file.raw(&commands.concat()).raw(&symbols.0).raw(&strings.0);
    file.0
}

/// Windows's, for x86-64.
pub fn dll(library: &Library) -> Vec<u8> {
    const ADDRESS: usize = 0x1000;
    const OFFSET: usize = 0x200;

    // One section: the directory of the exports, that of the imports, their tables, and the strings.
    let n = library.defines.len();
    let (exports, imports) = (ADDRESS, ADDRESS + 40);
    let functions = imports + 20 * (library.needs.len() + 1);
    let names = functions + 4 * n;
    let ordinals = names + 4 * n;
    let no_thunks = (ordinals + 2 * n).next_multiple_of(8);
    let text = no_thunks + 8;
    let mut strings = Strings::new();
    let mut string = |s: &str| text as u32 + strings.add(s);

    let mut section = Bytes::default();
    section.zeros(12).u32(string(&library.name)).u32(1).u32(n as u32).u32(n as u32);
    section.u32(functions as u32).u32(names as u32).u32(ordinals as u32);
    for name in &library.needs {
        section.u32(no_thunks as u32).u32(0).u32(0).u32(string(name)).u32(no_thunks as u32);
    }
    section.zeros(20);
    for _ in 0..n {
        section.u32(0xf_0000);
    }
    for name in &library.defines {
        section.u32(string(name));
    }
    for ordinal in 0..n {
        section.u16(ordinal as u16);
    }
    section.0.resize(text - ADDRESS, 0);
    section.raw(&strings.0);
    let length = section.0.len() as u32;

    let mut file = Bytes::default();
    file.raw(b"MZ").zeros(58).u32(64).raw(b"PE\0\0");
    file.u16(0x8664).u16(1).zeros(12).u16(240).u16(0x2022);
    file.u16(0x20b).zeros(22).u64(0x1_8000_0000).u32(0x1000).u32(0x200).zeros(16);
    file.u32(0x10_0000).u32(OFFSET as u32).zeros(44).u32(16);
    file.u32(exports as u32).u32(length).u32(imports as u32).u32(20).zeros(14 * 8);
    file.raw(b".rdata\0\0").u32(length).u32(ADDRESS as u32).u32(length).u32(OFFSET as u32);
    file.zeros(12).u32(0x4000_0040);
    file.0.resize(OFFSET, 0);
    file.raw(&section.0);
    file.0
}

/// What Windows's linker reads in the place of a DLL.
pub fn import_library(library: &Library) -> Vec<u8> {
    let mut file = Bytes::default();
    file.raw(b"!<arch>\n");
    for name in &library.defines {
        let strings = format!("{name}\0{}\0", library.name);
        let mut member = Bytes::default();
        member.u16(0).u16(0xffff).u16(0).u16(0x8664).u32(0).u32(strings.len() as u32);
        member.u16(0).u16(1 << 2).raw(strings.as_bytes());
        let header =
            format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "x.dll/", 0, 0, 0, 0, member.0.len());
        file.raw(header.as_bytes()).raw(&member.0);
        if !file.0.len().is_multiple_of(2) {
            file.u8(b'\n');
        }
    }
    file.0
}

/// Numbers are written with the lowest byte first.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn zeros(&mut self, n: usize) -> &mut Self {
        self.raw(&vec![0; n])
    }

    fn u8(&mut self, number: u8) -> &mut Self {
        self.raw(&[number])
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_le_bytes())
    }
}

/// Each ends with a zero byte, and the first is empty.
struct Strings(Vec<u8>);

impl Strings {
    fn new() -> Strings {
        Strings(vec![0])
    }

    /// Where the string begins.
    fn add(&mut self, string: &str) -> u32 {
        let start = self.0.len() as u32;
        self.0.extend(string.as_bytes());
        self.0.push(0);
        start
    }
}
