//! Titles: what a program writes over its own arguments, for people who read `ps`.

/// `nginx: worker process` is `nginx`, `puma 5.6 (tcp://…) [app]` is `app`.
pub(super) fn name(title: &str) -> Option<String> {
    let head = title.split([' ', ':']).next()?;
    let head = head.rsplit('/').next()?;
    if let Some(application) = in_brackets(title)
        && matches!(head, "puma" | "gunicorn" | "unicorn" | "thin" | "rainbows")
    {
        // gunicorn has its application here: `gunicorn: worker [shop.wsgi:app]`
        let module = application.split(':').next()?;
        return super::Candidate::Application(module.to_owned()).name(None);
    }
    super::acceptable(head.to_owned())
}

fn in_brackets(title: &str) -> Option<&str> {
    let (_, name) = title.trim_end().strip_suffix(']')?.rsplit_once('[')?;
    (!name.is_empty() && !name.contains(' ')).then_some(name)
}
