//! What every client does, as a macro without parameters: it is compiled in modules that import
//! `Client`, `Message` and `Subscriber` from one place or another, and define `World`, `VERIFIED`
//! and `RESERVED`.

macro_rules! claims {
    () => {
        impl World {
            async fn client(&mut self) -> Client {
                self.connect(Setup::default()).await
            }

            /// A subject of this world.
            fn at(&self, tail: &str) -> String {
                format!("{}.{tail}", self.top)
            }

            /// Waits until the bus has dealt with all this client asked for, and what it sent
            /// before has reached the subscriptions: the answer to a request nobody gets is last.
            async fn settle(&self, client: &Client) {
                let nobody = format!("{}-nobody.{}", self.top, unique());
                let request = Request::new().timeout(Some(PATIENCE));
                let error = client.send_request(nobody, request).await.unwrap_err();
                assert_eq!(error.kind(), RequestErrorKind::NoResponders);
            }

            async fn send<const N: usize>(&self, client: &Client, tail: &str, texts: [&str; N]) {
                for text in texts {
                    let payload = Bytes::copy_from_slice(text.as_bytes());
                    client.publish(self.at(tail), payload).await.unwrap();
                }
            }
        }

        async fn next(subscriber: &mut Subscriber) -> Message {
            in_time(subscriber.next())
                .await
                .expect("the stream goes on")
        }

        /// Waits for a stream's end, and returns what came before it.
        async fn rest(subscriber: &mut Subscriber) -> Vec<String> {
            in_time(subscriber.map(text).collect()).await
        }

        /// What is there already.
        fn arrived(subscriber: &mut Subscriber) -> Vec<String> {
            // Unconstrained, or tokio's budget would end the loop before the messages do.
            let waiting = || {
                let next = tokio::task::unconstrained(subscriber.next());
                next.now_or_never().flatten()
            };
            std::iter::from_fn(waiting).map(text).collect()
        }

        fn text(message: Message) -> String {
            String::from_utf8(message.payload.to_vec()).unwrap()
        }

        /// Answers `count` requests by handing their payload back.
        async fn echo(client: Client, mut requests: Subscriber, count: usize) {
            for _ in 0..count {
                let request = next(&mut requests).await;
                let reply = request.reply.expect("an answer is asked for");
                client.publish(reply, request.payload).await.unwrap();
            }
        }

        /// Waits until a drained client is gone; ours is at once.
        async fn gone(client: &Client) {
            let mut look = tokio::time::interval(Duration::from_millis(2));
            let gone = async {
                while client.flush().await.is_ok() {
                    look.tick().await;
                }
            };
            in_time(gone).await;
        }

        #[test]
        fn a_client_can_be_shared_and_printed() {
            fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
            fn streamed<T: std::fmt::Debug + futures::Stream + Send + Unpin + 'static>() {}
            shared::<Client>();
            shared::<Message>();
            streamed::<Subscriber>();
        }

        #[tokio::test]
        async fn a_message_arrives_as_it_was_sent() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let subject = world.at("news");
            let mut news = bob.subscribe(subject.clone()).await.unwrap();
            world.settle(&bob).await;
            alice
                .publish(subject.clone(), "hello".into())
                .await
                .unwrap();
            alice.publish(subject.clone(), Bytes::new()).await.unwrap();

            let message = next(&mut news).await;
            assert_eq!(message.subject.as_str(), subject);
            assert_eq!((message.reply, message.headers), (None, None));
            assert_eq!((message.status, message.description), (None, None));
            assert_eq!(message.payload, "hello");
            assert_eq!(message.length, subject.len() + "hello".len());
            assert_eq!(next(&mut news).await.length, subject.len());
        }

        #[tokio::test]
        async fn headers_arrive_with_every_value() {
            let mut world = World::open().await;
            let client = world.client().await;
            let subject = world.at("news");
            let mut news = client.subscribe(subject.clone()).await.unwrap();
            let sent = headers([
                ("Way", "one"),
                ("Text", "with spaces, ünicode: and colons"),
                ("Way", "another"),
            ]);
            client
                .publish_with_headers(subject.clone(), sent.clone(), "x".into())
                .await
                .unwrap();

            let message = next(&mut news).await;
            assert_eq!(values(message.headers.as_ref(), "Way"), ["one", "another"]);
            assert_eq!(message.headers, Some(sent.clone()));
            let block = "NATS/1.0\r\n\r\n".len()
                + sent
                    .iter()
                    .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
                    .map(|(name, value)| {
                        let name: &str = name.as_ref();
                        name.len() + ": ".len() + value.as_str().len() + "\r\n".len()
                    })
                    .sum::<usize>();
            assert_eq!(message.length, subject.len() + block + "x".len());
        }

        #[tokio::test]
        async fn a_pattern_gets_exactly_the_subjects_it_matches() {
            let mut world = World::open().await;
            let client = world.client().await;
            let tails = ["a", "b", "a.b", "b.b", "a.b.c", "a.a.a", "A"];
            let cases: [(&str, &[&str]); 6] = [
                ("a", &["a"]),
                ("*", &["a", "b", "A"]),
                (">", &tails),
                ("a.>", &["a.b", "a.b.c", "a.a.a"]),
                ("*.b", &["a.b", "b.b"]),
                ("a.*.c", &["a.b.c"]),
            ];
            let mut subscribers = Vec::new();
            for (pattern, expected) in cases {
                let subscriber = client.subscribe(world.at(pattern)).await.unwrap();
                subscribers.push((pattern, expected, subscriber));
            }
            for tail in tails {
                world.send(&client, tail, [tail]).await;
            }
            world.settle(&client).await;
            for (pattern, expected, mut subscriber) in subscribers {
                assert_eq!(arrived(&mut subscriber), expected, "{pattern}");
            }
        }

        #[tokio::test]
        async fn each_queue_group_gets_each_message_once() {
            let mut world = World::open().await;
            let (alice, bob, carol) = (
                world.client().await,
                world.client().await,
                world.client().await,
            );
            let jobs = world.at("jobs");
            let mut groups = Vec::new();
            for group in ["red", "blue"] {
                let mut members = Vec::new();
                for client in [&bob, &bob, &carol] {
                    let member = client.queue_subscribe(jobs.clone(), group.to_owned()).await;
                    members.push(member.unwrap());
                }
                groups.push(members);
            }
            let mut plain = carol.subscribe(jobs.clone()).await.unwrap();
            world.settle(&bob).await;
            world.settle(&carol).await;

            let sent: Vec<String> = (0..60).map(|job| job.to_string()).collect();
            for job in &sent {
                alice
                    .publish(jobs.clone(), job.clone().into())
                    .await
                    .unwrap();
            }
            for client in [&alice, &bob, &carol] {
                world.settle(client).await;
            }
            for members in &mut groups {
                let shares: Vec<Vec<String>> = members.iter_mut().map(arrived).collect();
                assert!(shares.iter().all(|share| !share.is_empty()), "{shares:?}");
                let got = shares.concat();
                assert_eq!(got.len(), sent.len(), "{shares:?}");
                assert_eq!(BTreeSet::from_iter(&got), BTreeSet::from_iter(&sent));
            }
            assert_eq!(arrived(&mut plain), sent);
        }

        #[tokio::test]
        async fn ten_thousand_messages_stay_in_order() {
            const COUNT: usize = 10_000;
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let subject = world.at("numbers");
            let mut numbers = bob.subscribe(subject.clone()).await.unwrap();
            world.settle(&bob).await;
            let publishing = async {
                for number in 0..COUNT {
                    let payload = number.to_string().into();
                    alice.publish(subject.clone(), payload).await.unwrap();
                }
                alice.flush().await.unwrap();
            };
            let reading = async {
                for number in 0..COUNT {
                    assert_eq!(text(next(&mut numbers).await), number.to_string());
                }
            };
            tokio::join!(publishing, reading);
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn many_tasks_share_one_client() {
            const TASKS: usize = 8;
            const EACH: usize = 20;
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let (news, service) = (world.at("news"), world.at("echo"));
            let mut heard = bob.subscribe(news.clone()).await.unwrap();
            let requests = bob.subscribe(service.clone()).await.unwrap();
            world.settle(&bob).await;
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(echo(bob.clone(), requests, TASKS * EACH));
            for task in 0..TASKS {
                let (client, news, service) = (alice.clone(), news.clone(), service.clone());
                tasks.spawn(async move {
                    for number in 0..EACH {
                        let payload = Bytes::from(format!("{task}/{number}"));
                        client.publish(news.clone(), payload.clone()).await.unwrap();
                        let answer = client.request(service.clone(), payload.clone()).await;
                        assert_eq!(answer.unwrap().payload, payload);
                    }
                });
            }
            let mut upto = [0; TASKS];
            for _ in 0..TASKS * EACH {
                let text = text(next(&mut heard).await);
                let (task, number) = text.split_once('/').unwrap();
                let task: usize = task.parse().unwrap();
                assert_eq!(number, upto[task].to_string(), "task {task} stays in order");
                upto[task] += 1;
            }
            in_time(tasks.join_all()).await;
            assert_eq!(upto, [EACH; TASKS]);
        }

        #[tokio::test]
        async fn a_request_gets_its_answer() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let subject = world.at("sum");
            let mut requests = bob.subscribe(subject.clone()).await.unwrap();
            world.settle(&bob).await;
            let answering = async {
                let request = next(&mut requests).await;
                assert_eq!(request.subject.as_str(), subject);
                assert_eq!(request.headers, None);
                let reply = request.reply.expect("an answer is asked for");
                assert!(reply.starts_with("_INBOX."), "{reply}");
                let length = subject.len() + reply.len() + request.payload.len();
                assert_eq!(request.length, length);
                bob.publish(reply.clone(), "3".into()).await.unwrap();
                reply
            };
            let asking = alice.request(subject.clone(), "1+2".into());
            let (answer, reply) = tokio::join!(asking, answering);
            let answer = answer.unwrap();
            assert_eq!(answer.payload, "3");
            assert_eq!(answer.subject, reply);
            assert_eq!((answer.reply, answer.headers), (None, None));
            assert_eq!((answer.status, answer.description), (None, None));
        }

        #[tokio::test]
        async fn headers_go_with_requests_and_answers() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let subject = world.at("echo");
            let mut requests = bob.subscribe(subject.clone()).await.unwrap();
            world.settle(&bob).await;
            let answering = async {
                for _ in 0..2 {
                    let request = next(&mut requests).await;
                    let (reply, headers) = (request.reply.unwrap(), request.headers.unwrap());
                    bob.publish_with_headers(reply, headers, request.payload)
                        .await
                        .unwrap();
                }
            };
            let sent = headers([("Way", "there"), ("Way", "back")]);
            let asking = async {
                let subject = || subject.clone();
                let plain = alice.request_with_headers(subject(), sent.clone(), "1".into());
                let plain = plain.await.unwrap();
                let built = Request::new().headers(sent.clone()).payload("2".into());
                let built = alice.send_request(subject(), built).await.unwrap();
                (plain, built)
            };
            let ((plain, built), ()) = tokio::join!(asking, answering);
            assert_eq!((plain.payload, built.payload), ("1".into(), "2".into()));
            assert_eq!(plain.headers.as_ref(), Some(&sent));
            assert_eq!(built.headers.as_ref(), Some(&sent));
        }

        #[tokio::test]
        async fn requests_at_once_each_get_their_own_answer() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let subject = world.at("echo");
            let mut requests = bob.subscribe(subject.clone()).await.unwrap();
            world.settle(&bob).await;
            let answering = async {
                // Last in, first out.
                let mut waiting = Vec::new();
                for _ in 0..10 {
                    waiting.push(next(&mut requests).await);
                }
                while let Some(request) = waiting.pop() {
                    let reply = request.reply.unwrap();
                    bob.publish(reply, request.payload).await.unwrap();
                }
            };
            let asking = futures::future::join_all((0..10).map(|number: usize| {
                let asking = alice.request(subject.clone(), number.to_string().into());
                async move { assert_eq!(text(asking.await.unwrap()), number.to_string()) }
            }));
            tokio::join!(asking, answering);
        }

        #[tokio::test]
        async fn a_request_to_nobody_fails_without_waiting_for_a_timeout() {
            let mut world = World::open().await;
            let setup = Setup {
                timeout: None,
                ..Setup::default()
            };
            let client = world.connect(setup).await;
            let error = in_time(client.request(world.at("nobody"), "?".into())).await;
            assert_eq!(error.unwrap_err().kind(), RequestErrorKind::NoResponders);
            let headers = headers([("A", "b")]);
            let asking = client.request_with_headers(world.at("nobody"), headers, "?".into());
            let error = in_time(asking).await.unwrap_err();
            assert_eq!(error.kind(), RequestErrorKind::NoResponders);
        }

        #[tokio::test]
        async fn a_request_to_a_silent_responder_times_out() {
            let mut world = World::open().await;
            let setup = Setup {
                timeout: Some(SOON),
                ..Setup::default()
            };
            let (alice, bob) = (world.connect(setup).await, world.client().await);
            let mut requests = bob.subscribe(world.at("silent")).await.unwrap();
            world.settle(&bob).await;
            assert_eq!(alice.timeout(), Some(SOON));
            let error = in_time(alice.request(world.at("silent"), "?".into())).await;
            assert_eq!(error.unwrap_err().kind(), RequestErrorKind::TimedOut);
            assert_eq!(text(next(&mut requests).await), "?");
        }

        #[tokio::test]
        async fn a_request_can_have_a_timeout_of_its_own() {
            let mut world = World::open().await;
            let hasty = Setup {
                timeout: Some(SOON),
                ..Setup::default()
            };
            let (alice, hasty) = (world.client().await, world.connect(hasty).await);
            let bob = world.client().await;
            let mut requests = bob.subscribe(world.at("slow")).await.unwrap();
            world.settle(&bob).await;
            let shorter = Request::new().timeout(Some(SOON));
            let error = in_time(alice.send_request(world.at("slow"), shorter)).await;
            assert_eq!(error.unwrap_err().kind(), RequestErrorKind::TimedOut);
            next(&mut requests).await;

            let none = Request::new().timeout(None).payload("patience".into());
            let answering = async {
                let request = next(&mut requests).await;
                // The client's own timeout passes.
                let error = in_time(hasty.request(world.at("slow"), "?".into())).await;
                assert_eq!(error.unwrap_err().kind(), RequestErrorKind::TimedOut);
                bob.publish(request.reply.unwrap(), request.payload)
                    .await
                    .unwrap();
            };
            let asking = hasty.send_request(world.at("slow"), none);
            let (answer, ()) = in_time(async { tokio::join!(asking, answering) }).await;
            assert_eq!(answer.unwrap().payload, "patience");
        }

        #[tokio::test]
        async fn a_client_waits_ten_seconds_by_default() {
            let mut world = World::open().await;
            let client = world.connect_plainly().await;
            assert_eq!(client.timeout(), Some(Duration::from_secs(10)));
        }

        #[tokio::test]
        async fn a_cancelled_request_disturbs_no_other() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let subject = world.at("echo");
            let mut requests = bob.subscribe(subject.clone()).await.unwrap();
            world.settle(&bob).await;
            let cancelled = tokio::select! {
                _ = alice.request(subject.clone(), "cancelled".into()) => None,
                request = next(&mut requests) => Some(request),
            };
            let cancelled = cancelled.expect("nobody has answered");
            let late = cancelled.reply.unwrap();
            bob.publish(late, "too late".into()).await.unwrap();
            let answering = echo(bob.clone(), requests, 1);
            let asking = alice.request(subject.clone(), "next".into());
            let (answer, ()) = tokio::join!(asking, answering);
            assert_eq!(answer.unwrap().payload, "next");
        }

        #[tokio::test]
        async fn the_first_answer_counts() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let subject = world.at("echo");
            let mut requests = bob.subscribe(subject.clone()).await.unwrap();
            world.settle(&bob).await;
            let answering = async {
                for _ in 0..2 {
                    let reply = next(&mut requests).await.reply.unwrap();
                    bob.publish(reply.clone(), "first".into()).await.unwrap();
                    bob.publish(reply, "second".into()).await.unwrap();
                }
            };
            let asking = async {
                for _ in 0..2 {
                    let answer = alice.request(subject.clone(), "?".into()).await.unwrap();
                    assert_eq!(answer.payload, "first");
                }
            };
            tokio::join!(asking, answering);
        }

        #[tokio::test]
        async fn several_responders_answer_at_an_inbox_of_ones_own() {
            let mut world = World::open().await;
            let alice = world.client().await;
            let mut responders = Vec::new();
            for _ in 0..3 {
                let client = world.client().await;
                let requests = client.subscribe(world.at("census")).await.unwrap();
                world.settle(&client).await;
                responders.push((client, requests));
            }
            let inbox = alice.new_inbox();
            assert!(inbox.starts_with("_INBOX."), "{inbox}");
            assert_ne!(inbox, alice.new_inbox());
            let mut answers = alice.subscribe(inbox.clone()).await.unwrap();
            let subject = world.at("census");
            alice
                .publish_with_reply(subject.clone(), inbox.clone(), "who?".into())
                .await
                .unwrap();
            for (number, (client, requests)) in responders.iter_mut().enumerate() {
                let request = next(requests).await;
                assert_eq!(request.reply.as_deref(), Some(inbox.as_str()));
                let answer = number.to_string().into();
                client.publish(inbox.clone(), answer).await.unwrap();
            }
            let mut got = BTreeSet::new();
            for _ in 0..3 {
                let answer = next(&mut answers).await;
                assert_eq!((answer.subject.as_str(), &answer.reply), (&*inbox, &None));
                got.insert(text(answer));
            }
            assert_eq!(got, BTreeSet::from(["0", "1", "2"].map(str::to_owned)));

            let sent = headers([("A", "b")]);
            alice
                .publish_with_reply_and_headers(subject, inbox, sent.clone(), "again".into())
                .await
                .unwrap();
            for (_, requests) in &mut responders {
                assert_eq!(next(requests).await.headers.as_ref(), Some(&sent));
            }
        }

        #[tokio::test]
        async fn unsubscribing_ends_the_stream_after_what_was_received() {
            let mut world = World::open().await;
            let client = world.client().await;
            let mut news = client.subscribe(world.at("news")).await.unwrap();
            world.send(&client, "news", ["before"]).await;
            world.settle(&client).await;
            news.unsubscribe().await.unwrap();
            world.send(&client, "news", ["after"]).await;
            world.settle(&client).await;
            assert_eq!(rest(&mut news).await, ["before"]);
            assert!(news.next().await.is_none(), "an ended stream stays ended");
        }

        #[tokio::test]
        async fn dropping_a_subscriber_unsubscribes() {
            let mut world = World::open().await;
            let client = world.client().await;
            let requests = client.subscribe(world.at("service")).await.unwrap();
            world.settle(&client).await;
            drop(requests);
            let error = client.request(world.at("service"), "?".into()).await;
            assert_eq!(error.unwrap_err().kind(), RequestErrorKind::NoResponders);
        }

        #[tokio::test]
        async fn unsubscribe_after_counts_from_the_start_of_the_subscription() {
            let mut world = World::open().await;
            let client = world.client().await;
            let mut early = client.subscribe(world.at("news")).await.unwrap();
            let mut late = client.subscribe(world.at("news")).await.unwrap();
            let mut full = client.subscribe(world.at("news")).await.unwrap();
            early.unsubscribe_after(3).await.unwrap();
            world.settle(&client).await;
            world.send(&client, "news", ["1", "2"]).await;
            for subscriber in [&mut early, &mut late, &mut full] {
                assert_eq!(text(next(subscriber).await), "1");
                assert_eq!(text(next(subscriber).await), "2");
            }
            late.unsubscribe_after(3).await.unwrap();
            full.unsubscribe_after(2).await.unwrap();
            world.settle(&client).await;
            world.send(&client, "news", ["3", "4", "5"]).await;
            world.settle(&client).await;
            assert_eq!(rest(&mut early).await, ["3"]);
            assert_eq!(rest(&mut late).await, ["3"]);
            assert!(rest(&mut full).await.is_empty());
        }

        /// The one hands out what is in the queue, though it be more than was asked for. The
        /// other cannot know what in the queue is genuine, and so keeps to the number.
        #[tokio::test]
        async fn unsubscribe_after_fewer_than_are_waiting_differs() {
            let mut world = World::open().await;
            let client = world.client().await;
            let mut news = client.subscribe(world.at("news")).await.unwrap();
            world.send(&client, "news", ["1", "2", "3"]).await;
            world.settle(&client).await;
            news.unsubscribe_after(2).await.unwrap();
            let expected: &[&str] = if VERIFIED {
                &["1", "2"]
            } else {
                &["1", "2", "3"]
            };
            assert_eq!(rest(&mut news).await, expected);
        }

        #[tokio::test]
        async fn draining_a_subscriber_ends_it_after_what_was_sent() {
            let mut world = World::open().await;
            let client = world.client().await;
            let mut news = client.subscribe(world.at("news")).await.unwrap();
            world.send(&client, "news", ["1", "2", "3"]).await;
            world.settle(&client).await;
            news.drain().await.unwrap();
            assert_eq!(rest(&mut news).await, ["1", "2", "3"]);
            world.settle(&client).await;
        }

        #[tokio::test]
        async fn draining_a_client_ends_streams_and_refuses_what_follows() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let mut last = bob.subscribe(world.at("last")).await.unwrap();
            world.settle(&bob).await;
            let mut news = alice.subscribe(world.at("news")).await.unwrap();
            world.send(&alice, "news", ["1", "2"]).await;
            world.settle(&alice).await;
            let clone = alice.clone();
            world.send(&alice, "last", ["written"]).await;
            alice.flush().await.unwrap();
            alice.drain().await.unwrap();

            assert_eq!(rest(&mut news).await, ["1", "2"]);
            assert_eq!(text(next(&mut last).await), "written");
            gone(&alice).await;
            let error = clone.publish(world.at("news"), "late".into()).await;
            assert_eq!(error.unwrap_err().kind(), PublishErrorKind::Send);
            let error = clone.subscribe(world.at("news")).await.unwrap_err();
            assert_eq!(error.kind(), SubscribeErrorKind::Other);
            let error = in_time(clone.request(world.at("news"), "?".into())).await;
            assert_eq!(error.unwrap_err().kind(), RequestErrorKind::Other);
            let error = clone.flush().await.unwrap_err();
            assert_eq!(error.kind(), FlushErrorKind::SendError);
            assert!(clone.drain().await.is_err());
            assert!(clone.force_reconnect().await.is_err());
            assert!(news.unsubscribe().await.is_err());
            // We count by ourselves, which needs no connection.
            assert_eq!(news.unsubscribe_after(9).await.is_ok(), VERIFIED);
            assert!(news.drain().await.is_err());
        }

        #[tokio::test]
        async fn a_request_in_flight_fails_when_its_client_is_drained() {
            let mut world = World::open().await;
            let setup = Setup {
                timeout: None,
                ..Setup::default()
            };
            let (alice, bob) = (world.connect(setup).await, world.client().await);
            let mut requests = bob.subscribe(world.at("silent")).await.unwrap();
            world.settle(&bob).await;
            let draining = async {
                next(&mut requests).await;
                alice.drain().await.unwrap();
            };
            let asking = alice.request(world.at("silent"), "?".into());
            let (answer, ()) = in_time(async { tokio::join!(asking, draining) }).await;
            assert_eq!(answer.unwrap_err().kind(), RequestErrorKind::Other);
        }

        #[tokio::test]
        async fn what_was_flushed_has_left() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let mut news = bob.subscribe(world.at("news")).await.unwrap();
            world.settle(&bob).await;
            world.send(&alice, "news", ["1", "2"]).await;
            alice.flush().await.unwrap();
            drop(alice);
            assert_eq!(text(next(&mut news).await), "1");
            assert_eq!(text(next(&mut news).await), "2");
        }

        #[tokio::test]
        async fn a_full_subscription_drops_the_newest_and_goes_on() {
            let mut world = World::open().await;
            let setup = Setup {
                capacity: 2,
                ..Setup::default()
            };
            let client = world.connect(setup).await;
            let mut slow = client.subscribe(world.at("news")).await.unwrap();
            let mut other = client.subscribe(world.at("other")).await.unwrap();
            world.send(&client, "news", ["1", "2", "3", "4"]).await;
            world.send(&client, "other", ["unharmed"]).await;
            world.settle(&client).await;
            assert_eq!(arrived(&mut slow), ["1", "2"]);
            assert_eq!(arrived(&mut other), ["unharmed"]);
            world.send(&client, "news", ["5"]).await;
            assert_eq!(text(next(&mut slow).await), "5");
            assert_eq!(client.connection_state(), State::Connected);
        }

        #[tokio::test]
        async fn what_is_too_large_is_refused_before_sending() {
            const SERVER: usize = 1024 * 1024;
            let mut world = World::open().await;
            let client = world.client().await;
            let subject = world.at("news");
            let mut news = client.subscribe(subject.clone()).await.unwrap();
            let most = client.max_payload();
            assert_eq!(most, SERVER - RESERVED);
            assert_eq!(client.server_info().max_payload, most);
            assert_eq!(RESERVED, if VERIFIED { 11_264 } else { 0 });
            let of = |size: usize| Bytes::from(vec![0; size]);
            let lines = headers([("A", "b")]);
            let block = "NATS/1.0\r\nA: b\r\n\r\n".len();
            client.publish(subject.clone(), of(most)).await.unwrap();
            assert_eq!(next(&mut news).await.payload.len(), most);
            let fits = of(most - block);
            client
                .publish_with_headers(subject.clone(), lines.clone(), fits)
                .await
                .unwrap();
            assert_eq!(next(&mut news).await.payload.len(), most - block);

            world.settle(&client).await;
            let sent = client.statistics().out_messages.load(Ordering::Relaxed);
            let too_large = PublishErrorKind::MaxPayloadExceeded;
            let error = client.publish(subject.clone(), of(most + 1)).await;
            assert_eq!(error.unwrap_err().kind(), too_large);
            let error = client
                .publish_with_headers(subject.clone(), lines.clone(), of(most))
                .await;
            assert_eq!(error.unwrap_err().kind(), too_large);
            let inbox = client.new_inbox();
            let error = client
                .publish_with_reply(subject.clone(), inbox, of(most + 1))
                .await;
            assert_eq!(error.unwrap_err().kind(), too_large);
            let too_large = RequestErrorKind::MaxPayloadExceeded;
            let error = client.request(subject.clone(), of(most + 1)).await;
            assert_eq!(error.unwrap_err().kind(), too_large);
            let error = client
                .request_with_headers(subject.clone(), lines, of(most))
                .await;
            assert_eq!(error.unwrap_err().kind(), too_large);
            client.flush().await.unwrap();
            let statistics = client.statistics();
            assert_eq!(statistics.out_messages.load(Ordering::Relaxed), sent);
        }

        #[tokio::test]
        async fn malformed_names_are_refused_before_sending() {
            let mut world = World::open().await;
            let client = world.client().await;
            let good = world.at("a");
            world.settle(&client).await;
            let sent = client.statistics().out_messages.load(Ordering::Relaxed);
            for bad in ["", "a b", "a\tb", "a\r\nPUB b 0\r\n", "a\n"] {
                let error = client.publish(bad, "x".into()).await.unwrap_err();
                assert_eq!(error.kind(), PublishErrorKind::InvalidSubject, "{bad:?}");
                let error = client
                    .publish_with_headers(bad, headers([("A", "b")]), "x".into())
                    .await
                    .unwrap_err();
                assert_eq!(error.kind(), PublishErrorKind::InvalidSubject, "{bad:?}");
                let error = client
                    .publish_with_reply(good.clone(), bad, "x".into())
                    .await
                    .unwrap_err();
                assert_eq!(error.kind(), PublishErrorKind::InvalidSubject, "{bad:?}");
                let error = client.request(bad, "x".into()).await.unwrap_err();
                assert_eq!(error.kind(), RequestErrorKind::InvalidSubject, "{bad:?}");
                let error = client.queue_subscribe(good.clone(), bad.to_owned()).await;
                let error = error.unwrap_err();
                assert_eq!(
                    error.kind(),
                    SubscribeErrorKind::InvalidQueueName,
                    "{bad:?}"
                );
            }
            for bad in ["", "a b", "a\r\n", ".a", "a.", "a..b"] {
                let error = client.subscribe(bad).await.unwrap_err();
                assert_eq!(error.kind(), SubscribeErrorKind::InvalidSubject, "{bad:?}");
                let error = client.queue_subscribe(bad, "q".to_owned()).await;
                let error = error.unwrap_err();
                assert_eq!(error.kind(), SubscribeErrorKind::InvalidSubject, "{bad:?}");
            }
            client.flush().await.unwrap();
            let statistics = client.statistics();
            assert_eq!(statistics.out_messages.load(Ordering::Relaxed), sent);
        }

        /// NATS routes a published wildcard as a literal, and an empty token nowhere. Neither is
        /// an address to us, nor is what a signed subject has no room for.
        #[tokio::test]
        async fn publishing_to_what_is_no_address_differs() {
            let mut world = World::open().await;
            let client = world.client().await;
            let mut all = client.subscribe(world.at(">")).await.unwrap();
            let long = "x".repeat(256);
            let tails = ["*", "a.>", "a*b", "a..b", "a.", "ä", long.as_str()];
            for tail in tails {
                let published = client.publish(world.at(tail), tail.to_owned().into()).await;
                match published {
                    Ok(()) => assert!(!VERIFIED, "{tail}"),
                    Err(error) => {
                        assert!(VERIFIED, "{tail}");
                        assert_eq!(error.kind(), PublishErrorKind::InvalidSubject, "{tail}");
                    }
                }
            }
            world.settle(&client).await;
            let expected: &[&str] = match VERIFIED {
                true => &[],
                false => &["*", "a.>", "a*b", "ä", &long],
            };
            assert_eq!(arrived(&mut all), expected);
        }

        /// NATS takes any reply subject, and so lets anyone have others' answers delivered where
        /// he likes. Ours has to be below the sender's own inbox.
        #[tokio::test]
        async fn a_reply_subject_outside_ones_own_inbox_differs() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let mut requests = bob.subscribe(world.at("service")).await.unwrap();
            world.settle(&bob).await;
            for reply in [world.at("elsewhere"), bob.new_inbox()] {
                let subject = world.at("service");
                let published = alice.publish_with_reply(subject, reply.clone(), "?".into());
                match published.await {
                    Ok(()) => {
                        assert!(!VERIFIED, "{reply}");
                        let request = next(&mut requests).await;
                        assert_eq!(request.reply.as_deref(), Some(reply.as_str()));
                    }
                    Err(error) => {
                        assert!(VERIFIED, "{reply}");
                        assert_eq!(error.kind(), PublishErrorKind::InvalidSubject);
                    }
                }
            }
        }

        /// The answer comes either way; ours always to the sender's own inbox.
        #[tokio::test]
        async fn the_inbox_of_a_built_request_differs() {
            let mut world = World::open().await;
            let (alice, bob) = (world.client().await, world.client().await);
            let mut requests = bob.subscribe(world.at("service")).await.unwrap();
            world.settle(&bob).await;
            let chosen = format!("_INBOX.{}", unique());
            let request = Request::new().inbox(chosen.clone()).payload("?".into());
            let answering = async {
                let request = next(&mut requests).await;
                let reply = request.reply.unwrap();
                assert_eq!(reply.as_str() == chosen, !VERIFIED, "{reply}");
                bob.publish(reply, "!".into()).await.unwrap();
            };
            let asking = alice.send_request(world.at("service"), request);
            let (answer, ()) = tokio::join!(asking, answering);
            assert_eq!(answer.unwrap().payload, "!");
        }

        /// A status line is the bus speaking for itself, unsigned: we never make a message of it.
        #[tokio::test]
        async fn a_status_line_in_ones_own_inbox_differs() {
            let mut world = World::open().await;
            let client = world.client().await;
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(inbox.clone()).await.unwrap();
            let nobody = world.at("nobody");
            client
                .publish_with_reply(nobody, inbox, "?".into())
                .await
                .unwrap();
            world.settle(&client).await;
            let answer = answers.next().now_or_never().flatten();
            let status = answer.and_then(|answer| answer.status);
            let expected = (!VERIFIED).then_some(StatusCode::NO_RESPONDERS);
            assert_eq!(status, expected);
        }

        #[tokio::test]
        async fn statistics_count_the_users_messages_and_no_others() {
            let mut world = World::open().await;
            let client = world.client().await;
            let statistics = client.statistics();
            assert_eq!(statistics.connects.load(Ordering::Relaxed), 1);
            let mut news = client.subscribe(world.at("news")).await.unwrap();
            world.settle(&client).await;
            let read = || {
                let now = client.statistics();
                let messages = [&now.out_messages, &now.in_messages];
                let bytes = [&now.out_bytes, &now.in_bytes];
                [messages, bytes].map(|both| both.map(|counter| counter.load(Ordering::Relaxed)))
            };
            let before = read();
            world.send(&client, "news", ["1", "2", "3"]).await;
            for _ in 0..3 {
                next(&mut news).await;
            }
            client.flush().await.unwrap();
            let after = read();
            assert_eq!(after[0], before[0].map(|count| count + 3));
            assert!(after[1][0] > before[1][0] && after[1][1] > before[1][1]);
        }

        #[tokio::test]
        async fn reconnecting_keeps_subscriptions() {
            let mut world = World::open().await;
            let client = world.client().await;
            let mut news = client.subscribe(world.at("news")).await.unwrap();
            world.settle(&client).await;
            assert_eq!(client.connection_state(), State::Connected);
            client.force_reconnect().await.unwrap();
            eventually("a second connect", || {
                client.statistics().connects.load(Ordering::Relaxed) == 2
            })
            .await;
            world.settle(&client).await;
            world.send(&client, "news", ["again"]).await;
            assert_eq!(text(next(&mut news).await), "again");
            assert_eq!(client.connection_state(), State::Connected);
        }
    };
}
