//! The agent's own knowledge of parents as the source of contexts: the context that a head carries
//! is that of the span which its call becomes.

use super::contexts::{Answer, Contexts, NewRoots, Question, Verdict, Void};
use crate::link::Committed;
use crate::propagation::{Asked, Inquirer};
use crate::sampling::Sampler;
use crate::trace::context::{IdSource, RemoteContext, SpanContext};

/// Asks the agent about calls that the capture sees, and treats others as if nothing were
/// known of them.
#[derive(Debug)]
pub struct Linked {
    inquirer: Inquirer,
    unseen: NewRoots,
}

impl Linked {
    /// Asks there. What is known of no service begins traces as `sampler` decides.
    pub fn new(inquirer: Inquirer, sampler: Sampler) -> Self {
        Self { inquirer, unseen: NewRoots::new(IdSource::random(), sampler) }
    }
}

impl Contexts for Linked {
    fn ask(&self, question: &Question) -> Answer {
        let Some(call) = question.call() else {
            return Answer::Now(self.unseen.verdict(&question.fields));
        };
        match self.inquirer.ask(call) {
            Asked::Answered(committed) => Answer::Now(verdict(committed)),
            Asked::Waits(answer) => {
                Answer::Later(Box::pin(async { Some(verdict(answer.await.ok()?)) }))
            }
        }
    }

    fn void(&self, void: Void) {
        // A context that was kept says who the sender is; whether that is an SDK, the agent finds
        // out by itself.
        if let (Some(call), Verdict::Set(context)) = (void.question.call(), void.verdict) {
            let RemoteContext { trace, span, flags, state } = context;
            let (parent, parent_is_remote) = (None, false);
            let root = SpanContext { trace, span, parent, parent_is_remote, flags, state };
            self.inquirer.tell(call, root);
        }
    }
}

fn verdict(committed: Committed) -> Verdict {
    match committed {
        Committed::Theirs => Verdict::Keep,
        Committed::Ours(context) => Verdict::Set(RemoteContext {
            trace: context.trace,
            span: context.span,
            flags: context.flags,
            state: context.state.clone(),
        }),
    }
}
