//! HellaSwag: how everyday scenes go on, with four endings each, of which people see at once which is
//! right. Zellers et al., 2019; the field's language models have been compared with it ever since.

use anyhow::Result;

use crate::one_file::{FileFlags, OneFile};

const FILE: OneFile = OneFile {
    folder: "hellaswag",
    name: "hellaswag_val.jsonl",
    // Asked for by its commit, the repository's last; the file is as it was in the first.
    url: "https://raw.githubusercontent.com/rowanz/hellaswag/a29ff8e9a04bba4bd6588223785ce105328adc57/data/hellaswag_val.jsonl",
    // As Hugging Face's `datasets` has it in its dataset_infos.json, with 12,246,618 bytes.
    sha256: "0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588",
};

/// HellaSwag's validation set (12 MB): the questions that the lessons ask with --questions hellaswag
///
/// Becomes data/hellaswag/hellaswag_val.jsonl, 10,042 questions, a line for each. Its checksum is
/// compared, so that every reader's accuracy is that of the same questions. A file that is already
/// there is kept: if it is the right one, there is nothing to do; if not, you are told so.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileFlags,
}

/// Downloads the questions, unless they are already there.
///
/// # Errors
/// See [`OneFile::fetch`].
pub fn run(args: &Args) -> Result<()> {
    FILE.fetch(&args.file)?;
    Ok(())
}
