// testcontainers for node starts and stops containers of insulad: testcontainers.js ISOLATION. The daemon is DOCKER_HOST's. Its
// reaper is an image of its own and stays off.
const assert = require("assert");
const { GenericContainer, Network, Wait } = require("testcontainers");

const isolation = process.argv[2];

const web = (say) => new GenericContainer("busybox:latest")
	.withCommand(["sh", "-c", `echo ${say} >/page; echo begun; exec httpd -f -p 80 -h /`])
	.withExposedPorts(80);

const page = async (c) => (await (await fetch(`http://${c.getHost()}:${c.getMappedPort(80)}/page`)).text()).trim();

const steps = {
	async "waits for a line of the log"() {
		const c = await web("log").withWaitStrategy(Wait.forLogMessage("begun")).withLabels({ a: "b" }).start();
		assert.match(c.getId(), /^[0-9a-f]{64}$/);
		assert.equal(c.getLabels().a, "b");
		await c.stop();
	},
	async "waits for its ports"() {
		const c = await web("ports").withWaitStrategy(Wait.forListeningPorts()).start();
		assert.equal(await page(c), "ports");
		const mapped = c.getMappedPort(80);
		await c.restart();
		assert.equal(await page(c), "ports");
		assert.ok(mapped > 0);
		await c.stop();
	},
	async "waits for its health, and for HTTP"() {
		const healthy = await web("health")
			.withHealthCheck({ test: ["CMD-SHELL", "wget -qO- 127.0.0.1/page"], interval: 1000, timeout: 20000, retries: 30 })
			.withWaitStrategy(Wait.forHealthCheck()).start();
		const http = await web("http").withWaitStrategy(Wait.forHttp("/page", 80)).start();
		assert.equal(await page(http), "http");
		await Promise.all([healthy.stop(), http.stop()]);
	},
	async "files, commands, environment"() {
		const c = await web("files").withEnvironment({ X: "y" }).withTmpFs({ "/t": "rw" })
			.withCopyContentToContainer([{ content: "copied", target: "/in/file" }])
			.withWaitStrategy(Wait.forLogMessage("begun")).start();
		const r = await c.exec(["sh", "-c", "cat /in/file; echo; echo $X; grep -c ' /t ' /proc/mounts; exit 3"]);
		assert.deepEqual([r.output.split(/\s+/).filter(Boolean), r.exitCode], [["copied", "y", "1"], 3]);
		const logs = await c.logs();
		assert.match(await new Promise((done) => logs.once("data", (d) => done(String(d)))), /begun/);
		logs.destroy();
		await c.stop();
	},
	async "a network of its own"() {
		const network = await new Network().start();
		const server = await web("network").withNetwork(network).withNetworkAliases("server")
			.withWaitStrategy(Wait.forListeningPorts()).start();
		const client = await web("client").withNetwork(network).withWaitStrategy(Wait.forLogMessage("begun")).start();
		assert.equal((await client.exec(["wget", "-qO-", "http://server/page"])).output.trim(), "network");
		await client.stop();
		await server.stop();
		await network.stop();
	},
	async "one that fails is reported"() {
		const c = new GenericContainer("busybox:latest").withCommand(["sh", "-c", "exit 1"])
			.withWaitStrategy(Wait.forLogMessage("never")).withStartupTimeout(30000);
		await assert.rejects(c.start(), /Log stream ended and message "never" was not received/);
	},
};

// It lets go of the sockets that logs come by (unref()): while a step waits for nothing but logs, node would find nothing left to
// do, and exit with 0.
setInterval(() => {}, 60000);

(async () => {
	for (const [name, step] of Object.entries(steps)) {
		await step();
		console.log(`${name} ok`);
	}
	process.exit(0);
})().catch((e) => {
	console.error(isolation, e);
	process.exit(1);
});
