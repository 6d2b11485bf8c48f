//! What a library's own records say: what it is called, what it needs, where it looks for that, and which
//! symbols it defines. The same for Linux's, macOS's and Windows's libraries, on any machine.

use std::{collections::BTreeSet, fs, fs::File, path::Path};

use anyhow::Result;
use object::{
    Architecture, BinaryFormat, Endianness, NameOrOrdinal, Object, elf,
    read::{
        ReadCache,
        archive::ArchiveFile,
        coff::ImportFile,
        elf::ElfFile64,
        macho::{LoadCommandVariant, MachOFile64},
        pe::PeFile64,
    },
};

/// A library that programs load.
#[derive(Debug, PartialEq)]
pub struct Library {
    pub format: BinaryFormat,
    pub architecture: Architecture,
    /// What a program that is linked to it will ask for: the soname, the install name, the DLL's name.
    pub name: Option<String>,
    /// The libraries that it needs, by the names with which it asks for them.
    pub needs: Vec<String>,
    /// The folders in which it has them looked for, if it says so.
    pub looks_in: Vec<String>,
}

impl Library {
    /// Reads no more of the file than the records.
    pub fn read(path: &Path) -> Result<Library> {
        let data = ReadCache::new(File::open(path)?);
        let file = object::File::parse(&data)?;
        let needs = file.import_libraries()?.map(|library| Ok(text(library?.name())));
        let (name, looks_in) = match &file {
            object::File::Elf64(file) => elf_names(file)?,
            object::File::MachO64(file) => macho_names(file)?,
            object::File::Pe64(file) => pe_names(file)?,
            _ => Default::default(),
        };
        let needs = needs.collect::<Result<_>>()?;
        let (format, architecture) = (file.format(), file.architecture());
        Ok(Library { format, architecture, name, needs, looks_in })
    }
}

type Data<'a> = &'a ReadCache<File>;

/// A library's name, and where it has others looked for.
type Names = (Option<String>, Vec<String>);

/// The soname, and RPATH or RUNPATH.
fn elf_names<'a>(file: &ElfFile64<'a, Endianness, Data<'a>>) -> Result<Names> {
    let table = file.elf_dynamic_table()?;
    let (mut name, mut looks_in) = (None, Vec::new());
    for entry in &table {
        match entry.tag {
            elf::DT_SONAME => name = Some(text(table.string(entry)?)),
            elf::DT_RPATH | elf::DT_RUNPATH => {
                looks_in.extend(text(table.string(entry)?).split(':').map(str::to_string));
            }
            _ => {}
        }
    }
    Ok((name, looks_in))
}

/// The install name, and the rpaths.
fn macho_names<'a>(file: &MachOFile64<'a, Endianness, Data<'a>>) -> Result<Names> {
    let endian = file.endian();
    let (mut name, mut looks_in) = (None, Vec::new());
    let mut commands = file.macho_load_commands()?;
    while let Some(command) = commands.next()? {
        match command.variant()? {
            LoadCommandVariant::IdDylib(own) => {
                name = Some(text(command.string(endian, own.dylib.name)?));
            }
            LoadCommandVariant::Rpath(rpath) => {
                looks_in.push(text(command.string(endian, rpath.path)?));
            }
            _ => {}
        }
    }
    Ok((name, looks_in))
}

/// The name in the table of what the DLL exports.
fn pe_names<'a>(file: &PeFile64<'a, Data<'a>>) -> Result<Names> {
    let Some(exports) = file.export_table()? else { return Ok((None, Vec::new())) };
    let name = exports.directory().name.get(object::LittleEndian);
    Ok((Some(text(exports.name_from_pointer(name)?)), Vec::new()))
}

/// The names of all symbols that a library offers to others, without the `_` that macOS puts before each.
pub fn defined(path: &Path) -> Result<BTreeSet<String>> {
    let data = fs::read(path)?;
    let file = object::File::parse(&*data)?;
    let prefix = if matches!(file, object::File::MachO64(_)) { "_" } else { "" };
    let mut names = BTreeSet::new();
    for export in file.exports()? {
        if let NameOrOrdinal::Name(name) = export?.name() {
            let name = text(name);
            names.insert(name.strip_prefix(prefix).unwrap_or(&name).to_string());
        }
    }
    Ok(names)
}

/// What Windows's linker reads in the place of a DLL: the DLL's name and the symbols that it is to give.
pub fn import_library(path: &Path) -> Result<(String, BTreeSet<String>)> {
    let data = fs::read(path)?;
    let archive = ArchiveFile::parse(&*data)?;
    let (mut dll, mut names) = (String::new(), BTreeSet::new());
    for member in archive.members() {
        if let Ok(import) = ImportFile::parse(member?.data(&*data)?) {
            dll = text(import.dll());
            names.insert(text(import.symbol()));
        }
    }
    Ok((dll, names))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
