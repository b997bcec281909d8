use std::path::Path;

use proptest::prelude::*;

use super::*;

/// The name of a program started in `/srv/shop` by a shell-like command line.
fn name(executable: &str, command: &str) -> Option<ProgramName> {
    name_in(executable, command, "/srv/shop")
}

fn name_in(executable: &str, command: &str, directory: &str) -> Option<ProgramName> {
    let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
    program(executable, &arguments, directory).name()
}

fn titled(executable: &str, title: &str) -> Option<ProgramName> {
    program(executable, &[title.to_owned()], "/srv/shop").name()
}

fn program<'a>(executable: &'a str, arguments: &'a [String], directory: &'a str) -> Program<'a> {
    Program {
        executable: Some(Path::new(executable)),
        arguments,
        comm: "comm",
        directory: Some(Path::new(directory)),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what `name` gives")]
fn script(name: &str) -> Option<ProgramName> {
    Some(ProgramName::Script(name.to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what `name` gives")]
fn executable(name: &str) -> Option<ProgramName> {
    Some(ProgramName::Executable(name.to_owned()))
}

#[test]
fn python_scripts_modules_and_applications() {
    for (command, expected) in [
        ("python3 app.py", "app"),
        ("python3 -u app.py --port 80", "app"),
        ("python3 /srv/billing/app.py", "billing"),
        ("python3 main.py", "shop"),
        ("python manage.py runserver", "shop"),
        ("python /srv/blog/manage.py runserver", "blog"),
        ("python -W error -X dev worker_queue.py", "worker_queue"),
        ("python -Werror -B worker_queue.py", "worker_queue"),
        ("python -m http.server 8000", "http.server"),
        ("python -um shop.server", "shop.server"),
        ("python -mshop", "shop"),
        ("python -m gunicorn app:app", "app"),
        ("python /usr/bin/gunicorn shop.wsgi:application", "shop"),
        ("python /usr/bin/gunicorn -w 4 -b 0.0.0.0:8000 billing:create_app()", "billing"),
        ("python /usr/bin/gunicorn billing.wsgi -b localhost:8000", "billing"),
        ("python /usr/bin/gunicorn -c conf.py", "gunicorn"),
        ("python /usr/bin/gunicorn --reload billing:app", "billing"),
        ("python /srv/venv/bin/uvicorn main:app --port 80", "shop"),
        ("python /usr/bin/uvicorn billing.main:app --header server:x", "billing"),
        ("python /usr/bin/flask --app billing run", "billing"),
        ("python /usr/bin/flask run", "flask"),
        ("python -m celery -A billing.tasks worker", "tasks"),
        ("python /usr/local/bin/billing-api", "billing-api"),
    ] {
        assert_eq!(name("/usr/bin/python3.11", command), script(expected), "{command}");
    }
    for command in ["python3", "python3 -c code app.py", "python3 -", "python3 -m"] {
        assert_eq!(name("/usr/bin/python3.11", command), executable("python3.11"), "{command}");
    }
}

#[test]
fn node_scripts() {
    for (command, expected) in [
        ("node server.js", "server"),
        ("node /srv/billing/server.js", "billing"),
        ("node /srv/billing/src/index.js", "billing"),
        ("node index.js", "shop"),
        ("node dist/main.js", "shop"),
        ("node --max-old-space-size=4096 -r ./tracing.js api.mjs", "api"),
        ("node --import x -- api.js", "api"),
        ("node /srv/billing/node_modules/.bin/next start", "billing"),
        ("node /usr/lib/node_modules/pm2/lib/Daemon.js", "pm2"),
    ] {
        assert_eq!(name("/usr/bin/node", command), script(expected), "{command}");
    }
    assert_eq!(name("/usr/bin/node", "node -e code secret.js"), executable("node"));
    assert_eq!(name_in("/usr/bin/node", "node /app/index.js", "/app"), script("index"));
    assert_eq!(name_in("/usr/bin/node", "node index.js", "/home/alice"), script("index"));
}

#[test]
fn java_jars_and_classes() {
    for (command, expected) in [
        ("java -jar x-1.2.jar", "x"),
        (
            "java -Xmx1g -Ddb.password=hunter2 -jar /opt/shop/shop-api-0.0.1-SNAPSHOT.jar",
            "shop-api",
        ),
        ("java -jar /opt/billing/app.jar", "billing"),
        ("java -cp /x/y.jar:/z com.acme.Main", "Main"),
        ("java --module-path mods -m com.acme/com.acme.Shop", "Shop"),
        ("java -cp x org.apache.catalina.startup.Bootstrap start", "tomcat"),
        ("java org.springframework.boot.loader.launch.JarLauncher", "shop"),
        ("java Hello.java", "Hello"),
    ] {
        let found = name("/usr/lib/jvm/java-17/bin/java", command);
        assert_eq!(found, script(expected), "{command}");
    }
    assert_eq!(name("/usr/bin/java", "java -version"), executable("java"));
}

#[test]
fn other_interpreters() {
    for (path, command, expected) in [
        ("/usr/bin/ruby3.1", "ruby -I lib bin/api.rb", "api"),
        ("/usr/bin/ruby3.1", "ruby bin/rails server", "shop"),
        ("/usr/bin/ruby3.1", "ruby /usr/bin/puma -p 80", "shop"),
        ("/usr/bin/php8.2", "php -S 0.0.0.0:80 -t public", "shop"),
        ("/usr/bin/php8.2", "php artisan serve", "shop"),
        ("/usr/bin/php8.2", "php -d x=1 -f api.php", "api"),
        ("/usr/bin/perl", "perl -I lib feed.pl", "feed"),
        ("/usr/bin/dotnet", "dotnet Shop.Api.dll --urls x", "Shop.Api"),
        ("/usr/bin/dotnet", "dotnet run", "shop"),
        ("/usr/bin/deno", "deno run -A feed.ts", "feed"),
        ("/usr/bin/bun", "bun feed.ts", "feed"),
        ("/bin/bash", "bash -e health.sh", "health"),
    ] {
        assert_eq!(name(path, command), script(expected), "{command}");
    }
    assert_eq!(name("/bin/dash", "sh -c curl"), executable("dash"));
}

#[test]
fn titles_that_programs_give_themselves() {
    for (path, title, expected) in [
        ("/usr/sbin/nginx", "nginx: worker process", "nginx"),
        ("/usr/sbin/nginx", "nginx: master process /usr/sbin/nginx -g daemon off;", "nginx"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm"),
        ("/usr/bin/ruby3.1", "puma 5.6.5 (tcp://0.0.0.0:9292) [billing]", "billing"),
        ("/usr/bin/ruby3.1", "puma: cluster worker 0: 123 [billing]", "billing"),
        ("/usr/bin/python3", "gunicorn: worker [billing.wsgi:app]", "billing"),
        ("/usr/bin/node", "next-server (v14.1.0)", "next-server"),
        ("/usr/lib/postgresql/15/bin/postgres", "postgres: shop shop 10.0.0.1(5) idle", "postgres"),
        ("/usr/bin/python3", "celery worker --broker=amqp://u:p@h", "celery"),
    ] {
        assert_eq!(titled(path, title), script(expected), "{title}");
    }
}

#[test]
fn compiled_programs_by_their_file() {
    for (path, command, expected) in [
        ("/usr/sbin/nginx", "nginx -g daemon", "nginx"),
        ("/usr/bin/curl", "curl http://x/", "curl"),
        ("/srv/billing/bin/server", "./bin/server", "billing"),
        ("/usr/local/bin/server", "server", "server"),
        ("/tmp/go-build1/b001/exe/main", "/tmp/go-build1/b001/exe/main", "main"),
        ("/usr/sbin/php-fpm8.2", "php-fpm8.2 -F", "php-fpm"),
        ("/bin/busybox", "httpd -f", "httpd"),
        ("/bin/busybox", "busybox httpd -f", "httpd"),
    ] {
        let found = name_in(path, command, "/");
        let expected = [executable(expected), script(expected)];
        assert!(expected.contains(&found), "{command}: {found:?}");
    }
    let spaced = "/opt/My App/feed";
    assert_eq!(titled(spaced, spaced), executable("feed"));
}

#[test]
fn a_process_that_is_gone_is_known_by_its_arguments_or_short_name() {
    let arguments = ["/usr/bin/python3".to_owned(), "feed.py".to_owned()];
    let mut gone =
        Program { executable: None, arguments: &arguments, comm: "python3", directory: None };
    assert_eq!(gone.name(), script("feed"));
    assert_eq!(gone.runtime(), Some(Runtime::Python));
    let arguments = ["curl".to_owned()];
    gone.arguments = &arguments;
    assert_eq!(gone.name(), executable("curl"));
    gone.arguments = &[];
    assert_eq!(gone.name(), Some(ProgramName::Comm("python3".to_owned())));
}

#[test]
fn go_is_seen_in_the_file() {
    let mut file = b"\x7fELF".to_vec();
    file.resize(0xf80, 0);
    file.extend([4, 0, 0, 0, 83, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(Runtime::of_contents(&file), None);
    file.extend(b"Go\0\0abc");
    assert_eq!(Runtime::of_contents(&file), Some(Runtime::Go));
    assert_eq!(Runtime::of_contents(&file[1..]), None);
    assert_eq!(Runtime::of_contents(b""), None);
}

proptest! {
    /// Whatever stands behind the script, or as the value of an option, is not in the name.
    #[test]
    fn secrets_in_arguments_are_not_in_names(
        secret in "s3cr3t[a-z]{4,12}(:[a-z]{3})?",
        option in "--?[a-z]{2,8}",
        interpreter in prop::sample::select(vec![
            ("/usr/bin/python3", vec!["feed.py"]),
            ("/usr/bin/python3", vec!["-m", "feed"]),
            ("/usr/bin/python3", vec!["/usr/bin/gunicorn", "feed:app"]),
            ("/usr/bin/python3", vec!["-c"]),
            ("/usr/bin/node", vec!["feed.js"]),
            ("/usr/bin/node", vec!["-e"]),
            ("/usr/bin/java", vec!["-jar", "feed.jar"]),
            ("/usr/bin/ruby", vec!["feed.rb"]),
            ("/usr/bin/curl", vec![]),
        ]),
        glued in any::<bool>(),
    ) {
        let (executable, command) = interpreter;
        let mut arguments = vec![executable.to_owned()];
        arguments.extend(command.iter().map(|&argument| argument.to_owned()));
        if glued {
            arguments.push(format!("{option}={secret}"));
        } else {
            arguments.extend([option, secret]);
        }
        let name = format!("{:?}", program(executable, &arguments, "/srv/shop").name());
        prop_assert!(!name.contains("s3cr3t"), "{}", name);
    }

    #[test]
    fn no_command_line_is_too_strange(
        arguments in prop::collection::vec("\\PC{0,12}|-[a-zA-Z]{1,3}|[a-z.:/]{1,12}", 0..6),
        executable in prop::sample::select(vec![
            "/usr/bin/python3", "/usr/bin/node", "/usr/bin/java", "/usr/bin/ruby", "/usr/bin/php",
            "/usr/bin/dotnet", "/usr/bin/deno", "/bin/sh", "/bin/busybox", "/",
        ]),
    ) {
        let name = program(executable, &arguments, "/srv/shop").name();
        prop_assert!(name.is_some());
    }
}
