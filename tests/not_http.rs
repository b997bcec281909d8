//! Protects: what is not HTTP gives no span and no loss, and does not disturb what is.

use anyhow::Result;
use tracer_tests::conversation::{assert_summaries, exchange};
use tracer_tests::message::get;
use tracer_tests::service::Nginx;
use tracer_tests::wire::{end, play, send, until};
use tracer_tests::{AgentOptions, Launcher, on_each_backend};

/// Protects: other protocols give no span, count as no loss, and are left alone from then on.
#[test]
fn what_is_not_http_gives_nothing() -> Result<()> {
    let scrambled = (0..8_192_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    let mark = b"\0\xffend";
    let noise: Vec<u8> = scrambled.chain(*mark).collect();
    on_each_backend(|backend| {
        let (mut launcher, agent) = Launcher::start_traced(backend)?;
        // Binary both ways.
        let asked = vec![vec![send(&noise), until(mark)]; 3].concat();
        for _ in 0..3 {
            let answered = vec![vec![until(mark), send(&noise)]; 3].concat();
            play(&mut launcher, &answered, &asked)?;
        }
        // SMTP: the server speaks first.
        play(
            &mut launcher,
            &[
                send("220 mail.test ESMTP\r\n"),
                until("\r\n"),
                send("250 mail.test\r\n"),
                until("\r\n"),
                send("250 Ok\r\n"),
                until("\r\n"),
                send("221 Bye\r\n"),
            ],
            &[
                until("\r\n"),
                send("EHLO client.test\r\n"),
                until("\r\n"),
                send("MAIL FROM:<a@b.test>\r\n"),
                until("\r\n"),
                send("QUIT\r\n"),
                until("\r\n"),
                end(),
            ],
        )?;
        // Redis, which says `GET` too.
        let mut questions = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..5 {
            questions.extend([send("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), until("\r\n")]);
            answers.extend([until("k\r\n"), send("$-1\r\n")]);
        }
        answers.push(end());
        play(&mut launcher, &answers, &questions)?;
        // A lookalike: method, space, slash, but no version.
        play(
            &mut launcher,
            &[until("\r\n"), send("GET /ok\r\n"), until("\r\n"), send("bye\r\n"), end()],
            &[send("GET /x y z\r\n"), until("\r\n"), send("GET /y\r\n"), until("bye")],
        )?;
        exchange(&mut launcher, &get("/real", "real.test"))?;
        let finished = agent.stop_after(2)?;
        assert_summaries(&finished.spans, &["server GET /real 200", "client GET /real 200"]);
        finished.report.assert_nothing_lost();
        let ignored = finished.report.json["kernel"]["ignored_connections"].as_u64();
        assert!(ignored >= Some(8), "{}", finished.report.json);
        Ok(())
    })
}

/// Protects: encrypted traffic gives no span and is no loss.
#[test]
fn tls_gives_nothing() -> Result<()> {
    let nginx = Nginx::new("location / { return 200 'secret'; }")?.tls()?.start()?;
    on_each_backend(|backend| {
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(launcher.pid()).pid(nginx.pid()).start()?;
        let url = nginx.url("/[1-5]").replace("http:", "https:");
        let output = launcher.run(["curl", "-sSk", &url])?.success()?;
        assert_eq!(output.stdout, "secret".repeat(5));
        exchange(&mut launcher, &get("/plain", "plain.test"))?;
        let finished = agent.stop_after(2)?;
        assert_eq!(finished.spans.with("server.address", "plain.test").len(), 2);
        finished.report.assert_nothing_lost();
        Ok(())
    })
}
