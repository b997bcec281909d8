//! From a path, module or application to a name that tells services apart.
//!
//! Half of all programs are called `app`, `main` or `index`: the name of the project then stands
//! in the directory or package around them.

use std::path::Path;

/// Names that mean nothing: the project's directory is better, even if only the working directory
/// tells it.
const MEANINGLESS: &[&str] = &[
    "__main__",
    "artisan",
    "asgi",
    "bootstrap",
    "cli",
    "console",
    "index",
    "main",
    "manage",
    "rails",
    "run",
    "start",
    "wsgi",
];

/// Names that mean little: the directory is better where the command line spells it out.
const WEAK: &[&str] = &["app", "application", "server", "service", "worker", "web"];

/// Directories that hold projects or parts of projects, and are none.
const LAYOUT: &[&str] = &[
    "app",
    "apps",
    "bin",
    "build",
    "classes",
    "cmd",
    "code",
    "current",
    "debug",
    "dist",
    "exe",
    "home",
    "html",
    "lib",
    "lib64",
    "libexec",
    "local",
    "opt",
    "out",
    "public",
    "release",
    "releases",
    "root",
    "sbin",
    "scripts",
    "server",
    "service",
    "services",
    "share",
    "src",
    "srv",
    "target",
    "tmp",
    "usr",
    "var",
    "workspace",
    "www",
];

/// Longest name given to a service.
const MAX_NAME: usize = 128;

/// Where a program's name may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// A script, jar or executable.
    Path(String),
    /// A dotted application module: `shop.wsgi`.
    Application(String),
    /// A name as it is.
    Name(String),
    /// The project in the working directory, run by a program with this name.
    Project(String),
}

impl Candidate {
    /// The name, given the process's working directory.
    pub(super) fn name(self, directory: Option<&Path>) -> Option<String> {
        let name = match self {
            Self::Path(path) => of_path(&path, directory),
            Self::Application(module) => of_application(&module, directory),
            Self::Name(name) => Some(name),
            Self::Project(runner) => directory.and_then(project).or(Some(runner)),
        };
        name.and_then(acceptable)
    }
}

/// Rejects what cannot be the name of a program, or might be a secret put into its place.
pub(super) fn acceptable(name: String) -> Option<String> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "=?&;:/\\'\"`$<>|".contains(c);
    let userinfo = name.matches('@').count() > 1;
    let fits = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(odd);
    (fits && !userinfo).then_some(name)
}

fn of_path(path: &str, directory: Option<&Path>) -> Option<String> {
    let path = Path::new(path);
    let parents = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let stem = stem(path.file_name()?.to_str()?);
    // A tool installed inside a project: `/srv/shop/node_modules/.bin/next`.
    let mut parts = path.to_str()?.split("/node_modules/");
    if let (Some(around), Some(package)) = (parts.next(), parts.next()) {
        let package = package.split('/').find(|part| !part.starts_with(['.', '@']));
        return project(Path::new(around)).or_else(|| Some(package?.to_owned()));
    }
    Some(choose(stem, parents, directory))
}

fn of_application(module: &str, directory: Option<&Path>) -> Option<String> {
    let (packages, stem) = module.rsplit_once('.').unwrap_or(("", module));
    let packages = packages.replace('.', "/");
    let parents = Some(Path::new(&packages)).filter(|path| !path.as_os_str().is_empty());
    (!stem.is_empty()).then(|| choose(stem, parents, directory))
}

fn choose(stem: &str, parents: Option<&Path>, directory: Option<&Path>) -> String {
    let lower = stem.to_ascii_lowercase();
    let meaningless = MEANINGLESS.contains(&&*lower);
    let around = parents.filter(|_| meaningless || WEAK.contains(&&*lower)).and_then(project);
    let project = around.or_else(|| {
        // A relative path is one below the working directory.
        let relative = parents.is_none_or(Path::is_relative);
        directory.filter(|_| meaningless && relative).and_then(project)
    });
    project.unwrap_or_else(|| stem.to_owned())
}

/// The innermost directory that can be a project's name.
fn project(directory: &Path) -> Option<String> {
    let mut ancestors = directory.ancestors();
    ancestors.find_map(|path| {
        let name = path.file_name()?.to_str()?;
        let of_user = path.parent().is_some_and(|parent| parent == Path::new("/home"));
        let scratch = name.starts_with("go-build") || name.starts_with('.');
        // Capistrano's dated releases, Go's numbered build directories.
        let numbered = name.trim_start_matches(['b', 'v']).bytes().all(|b| b.is_ascii_digit());
        let layout = LAYOUT.contains(&name) || scratch || numbered || of_user;
        let environment = matches!(name, "venv" | "env" | "virtualenv" | "site-packages");
        (!layout && !environment && !WEAK.contains(&name) && !MEANINGLESS.contains(&name))
            .then(|| name.to_owned())
    })
}

/// A file name without the extension of a program.
fn stem(file_name: &str) -> &str {
    const EXTENSIONS: &[&str] = &[
        ".cjs", ".dll", ".exe", ".jar", ".java", ".js", ".jsx", ".mjs", ".mts", ".php", ".phar",
        ".pl", ".psgi", ".py", ".pyc", ".pyz", ".rb", ".ru", ".sh", ".ts", ".tsx", ".war",
    ];
    let stem = EXTENSIONS.iter().find_map(|extension| file_name.strip_suffix(extension));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(file_name)
}

/// `shop-1.2.3-SNAPSHOT.jar` is `shop`: the version begins at the first dash before a digit.
pub(super) fn without_jar_version(jar: &str) -> String {
    let (directory, file) = jar.rsplit_once('/').map_or(("", jar), |(d, f)| (d, f));
    let file = stem(file);
    let version = file
        .char_indices()
        .find(|&(at, c)| c == '-' && file[at + 1..].starts_with(|next: char| next.is_ascii_digit()))
        .map(|(at, _)| at)
        .filter(|&at| at > 0);
    let name = &file[..version.unwrap_or(file.len())];
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}
