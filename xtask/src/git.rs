//! The git command line, run in one repository.

use std::{
    collections::BTreeMap,
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// What git sets for its hooks; it would point us at another repository or index than we mean.
const OF_A_HOOK: [&str; 4] = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"];

/// A git in `folder` whose answers do not depend on the user's settings.
pub fn command(folder: &Path) -> Command {
    let mut git = Command::new("git");
    for variable in OF_A_HOOK {
        git.env_remove(variable);
    }
    git.current_dir(folder).env("LC_ALL", "C").env("GIT_NO_REPLACE_OBJECTS", "1");
    git.args(["-c", "i18n.commitEncoding=UTF-8", "-c", "core.autocrlf=false"]);
    git
}

/// Lets the command read `input`, and waits for it. Its exit code may be any.
pub fn run(command: &mut Command, input: &str) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("git does not run: install it")?;
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        // A thread of its own, for both pipes may fill up. A git that stops reading says why.
        scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
        Ok(child.wait_with_output()?)
    })
}

/// What the command prints, if it succeeds, without the newline at the end.
fn answer(command: &mut Command, input: &str) -> Result<String> {
    let output = run(command, input)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        let mut args = command.get_args().skip(4).map(|arg| arg.to_string_lossy());
        bail!("`git {} …` fails: {said}", args.next().unwrap_or_default());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_string())
}

/// A repository and its working tree.
pub struct Git {
    /// The top folder of the working tree.
    pub root: PathBuf,
}

impl Git {
    /// The repository that the current folder lies in.
    ///
    /// # Errors
    /// It lies in none.
    pub fn here() -> Result<Self> {
        let here = env::current_dir()?;
        let root = answer(command(&here).args(["rev-parse", "--show-toplevel"]), "");
        Ok(Self { root: root.context("this folder is in no git repository")?.into() })
    }

    /// What git prints, without the newline at the end.
    pub fn ask(&self, args: &[&str]) -> Result<String> {
        self.tell(args, "")
    }

    /// The same for a command that reads `input`.
    pub fn tell(&self, args: &[&str], input: &str) -> Result<String> {
        answer(command(&self.root).args(args), input)
    }

    /// The hash of what `revision` names, if it names something.
    pub fn find(&self, revision: &str) -> Option<String> {
        self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", revision]).ok()
    }

    /// Writes a commit into which nothing of this machine or this hour finds its way.
    /// `when` is in seconds since 1970, `who` a name and an address.
    pub fn commit(
        &self,
        tree: &str,
        parent: Option<&str>,
        who: (&str, &str),
        when: i64,
        message: &str,
    ) -> Result<String> {
        let mut git = command(&self.root);
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), who.0);
            git.env(format!("GIT_{role}_EMAIL"), who.1);
            git.env(format!("GIT_{role}_DATE"), format!("@{when} +0000"));
        }
        git.args(["commit-tree", tree]);
        if let Some(parent) = parent {
            git.args(["-p", parent]);
        }
        answer(&mut git, message)
    }
}

/// The files of a commit, to be changed and written as another tree. The working tree and the index
/// know nothing of it.
#[derive(Clone)]
pub struct Tree<'a> {
    git: &'a Git,
    /// By their paths, as `git ls-tree` describes them: `MODE blob HASH`.
    files: BTreeMap<String, String>,
}

impl<'a> Tree<'a> {
    /// # Errors
    /// The repository has no such commit.
    pub fn of(git: &'a Git, revision: &str) -> Result<Self> {
        let commit = git.find(&format!("{revision}^{{commit}}"));
        let commit = commit.with_context(|| format!("the repository has no commit {revision}"))?;
        let list = git.ask(&["ls-tree", "-r", "-z", "--full-tree", &commit])?;
        let files = list.split_terminator('\0').filter_map(|entry| {
            let (description, path) = entry.split_once('\t')?;
            Some((path.to_string(), description.to_string()))
        });
        Ok(Self { git, files: files.collect() })
    }

    /// All paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The file's text, if there is such a file.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self, path: &str) -> Result<Option<String>> {
        let Some(hash) = self.files.get(path).and_then(|file| file.split(' ').next_back()) else {
            return Ok(None);
        };
        let output = run(command(&self.git.root).args(["cat-file", "blob", hash]), "")?;
        let text = String::from_utf8(output.stdout);
        text.map(Some).with_context(|| format!("{path} is not UTF-8 text"))
    }

    pub fn put(&mut self, path: &str, text: &str) -> Result<()> {
        let hash = self.git.tell(&["hash-object", "-w", "--stdin"], text)?;
        self.files.insert(path.into(), format!("100644 blob {hash}"));
        Ok(())
    }

    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.files.retain(|path, _| keep(path));
    }

    /// Writes the tree to the repository and returns its hash.
    pub fn write(&self) -> Result<String> {
        self.indexed(&["write-tree"])
    }

    /// Writes the files to a temporary folder.
    pub fn export(&self) -> Result<TempDir> {
        let folder = tempfile::tempdir()?;
        let prefix = format!("--prefix={}/", folder.path().display());
        self.indexed(&["checkout-index", "--all", &prefix])?;
        Ok(folder)
    }

    /// Runs git with an index that holds these files.
    fn indexed(&self, args: &[&str]) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let index = folder.path().join("index");
        let git = || {
            let mut git = command(&self.git.root);
            git.env("GIT_INDEX_FILE", &index);
            git
        };
        let entries: String =
            self.files.iter().map(|(path, file)| format!("{file}\t{path}\0")).collect();
        answer(git().args(["update-index", "-z", "--index-info"]), &entries)?;
        answer(git().args(args), "")
    }
}
