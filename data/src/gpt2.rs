//! GPT-2's weights in four sizes, from Hugging Face's hub: `config.json` and `model.safetensors`, as
//! the lessons read them.
//!
//! Each file is asked for by the commit that it belongs to and must have the checksum written down
//! here, so that every reader has the same weights.
//!
//! Why not the hub's own client, the crate hf-hub? Its 1.0.0 cannot be told a timeout for a silent hub,
//! keeps an error page as the file in the cache that Python's programs share, and makes this crate's build
//! six times as long.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use files::{Download, sha256_of};

const HUB: &str = "https://huggingface.co";

/// A size of GPT-2, and where the hub has it.
pub struct Model {
    name: &'static str,
    /// The commit of the hub's repository `openai-community/NAME`.
    revision: &'static str,
    config_sha256: &'static str,
    weights_sha256: &'static str,
}

pub const GPT2: Model = Model {
    name: "gpt2",
    revision: "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    config_sha256: "0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4",
    weights_sha256: "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
};

pub const GPT2_MEDIUM: Model = Model {
    name: "gpt2-medium",
    revision: "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
    config_sha256: "ef1a44d889ad1a0acc7731c78134f1b87d2d222f110e97dd10fd4117331caf22",
    weights_sha256: "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
};

pub const GPT2_LARGE: Model = Model {
    name: "gpt2-large",
    revision: "32b71b12589c2f8d625668d2335a01cac3249519",
    config_sha256: "7fccdcfd6622055342a734c663ee0b61ff4fd697f42467595df0bf4448c8c170",
    weights_sha256: "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
};

pub const GPT2_XL: Model = Model {
    name: "gpt2-xl",
    revision: "15ea56dee5df4983c59b2538573817e1667135e2",
    config_sha256: "be48115d52314bc27327e160bf10197760db02ea689d10adb24db4102edf7a8a",
    weights_sha256: "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
};

#[derive(clap::Args)]
pub struct Args {
    /// Put the two files into this folder instead [default: data/<the model's name> in the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Download from this hub, for example a mirror that your network can reach [default: the
    /// environment's HF_ENDPOINT, or else https://huggingface.co]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// The checksums that the two files must have, for a mirror with other weights
    #[arg(long, num_args = 2, value_names = ["CONFIG", "WEIGHTS"])]
    sha256: Option<Vec<String>>,

    /// Wait this long for a connection, and three times as long when the hub falls silent
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    /// Download even if there are files, and replace each once the new one is whole
    #[arg(long)]
    force: bool,
}

/// Puts a model's two files into their folder, unless they are already there. What Hugging Face's
/// own programs have downloaded before is not downloaded again.
///
/// # Errors
/// When another file is in the place of one, or one cannot be downloaded; says how to go on.
pub fn run(args: &Args, model: &Model) -> Result<()> {
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => crate::data_folder()?.join(model.name),
    };
    let wanted =
        [("config.json", model.config_sha256), ("model.safetensors", model.weights_sha256)];
    let mut missing = Vec::new();
    for (i, (name, sha256)) in wanted.into_iter().enumerate() {
        let sha256 = args.sha256.as_ref().map_or(sha256, |given| &given[i]);
        if args.force || !is_there(&folder.join(name), sha256)? {
            missing.push((name, sha256));
        }
    }
    for (name, sha256) in &missing {
        fetch(args, model, name, sha256, &folder.join(name))?;
    }
    let state = if missing.is_empty() { "already there, and right" } else { "ready" };
    let shown = folder.display();
    println!(
        "{shown} is {state}: cargo run --bin step05_gpt2 -- --weights {shown} --prompt \"Once upon a time\""
    );
    Ok(())
}

/// Whether the right file is in its place; an error if another one is.
fn is_there(path: &Path, sha256: &str) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    ensure!(
        is_right(path, sha256)?,
        "{} is there but is not the expected file; move it away, or replace it with --force",
        path.display()
    );
    Ok(true)
}

fn is_right(path: &Path, sha256: &str) -> Result<bool> {
    Ok(sha256_of(path)?.eq_ignore_ascii_case(sha256))
}

fn fetch(args: &Args, model: &Model, name: &str, sha256: &str, to: &Path) -> Result<()> {
    if !args.force
        && let Some(cached) = find_in_cache(model, name, sha256)
    {
        println!("{} comes from {}", to.display(), cached.display());
        return take(&cached, to).with_context(|| format!("cannot write {}", to.display()));
    }
    let endpoint = args.endpoint.clone().or_else(|| env::var("HF_ENDPOINT").ok());
    let endpoint = endpoint.as_deref().unwrap_or(HUB).trim_end_matches('/');
    let Model { name: repository, revision, .. } = model;
    let download = Download {
        url: &format!("{endpoint}/openai-community/{repository}/resolve/{revision}/{name}"),
        to,
        sha256: Some(sha256),
        connect_timeout: Duration::from_secs(args.timeout),
    };
    download.run().map_err(|error| {
        anyhow!(
            "{error:#}; name another hub with --endpoint, or get the file by hand from \
             {HUB}/openai-community/{repository}/tree/{revision} and save it as {}",
            to.display()
        )
    })
}

/// The file in the cache that Hugging Face's programs share, if it is there and right.
///
/// The layout is theirs: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>. The
/// models were once called without `openai-community/`.
fn find_in_cache(model: &Model, name: &str, sha256: &str) -> Option<PathBuf> {
    let cache = cache()?;
    let Model { name: repository, revision, .. } = model;
    [format!("models--openai-community--{repository}"), format!("models--{repository}")]
        .iter()
        .map(|folder| cache.join(folder).join("snapshots").join(revision).join(name))
        .find(|path| path.is_file() && is_right(path, sha256).unwrap_or(false))
}

/// The folder of that cache: where the environment says, or in the home folder.
fn cache() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let below = |name: &str, folder: &str| Some(PathBuf::from(variable(name)?).join(folder));
    below("HF_HUB_CACHE", "")
        .or_else(|| below("HUGGINGFACE_HUB_CACHE", ""))
        .or_else(|| below("HF_HOME", "hub"))
        .or_else(|| below("XDG_CACHE_HOME", "huggingface/hub"))
        .or_else(|| below("HOME", ".cache/huggingface/hub"))
}

/// Gives a file of the cache a second name in our folder: that takes no space, and unlike a symbolic
/// link it survives when the cache is emptied. Copies it where that cannot be, on another disk.
fn take(cached: &Path, to: &Path) -> Result<()> {
    // In the cache, the names are symbolic links to the content.
    let content = fs::canonicalize(cached)?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::hard_link(&content, to).is_ok() {
        return Ok(());
    }
    files::write_atomically(to, |file| {
        io::copy(&mut File::open(&content)?, file)?;
        Ok(())
    })
}
