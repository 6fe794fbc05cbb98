/* Every resource of the API through dockerode: prints one line for each thing that went as it should. */
'use strict';
const Docker = require('dockerode');
const assert = require('assert');
const { PassThrough } = require('stream');
const fs = require('fs');

const [, , socketPath, isolation, busybox] = process.argv;
const docker = new Docker({ socketPath });
const HostConfig = (more) => Object.assign({ Isolation: isolation, NetworkMode: 'none' }, more);
const text = (stream) => new Promise((resolve, reject) => {
	let all = '';
	stream.on('data', (b) => { all += b; }).on('end', () => resolve(all)).on('error', reject);
});
/* The two streams of a framed one, once it has ended. */
const demux = (stream) => new Promise((resolve) => {
	const out = new PassThrough(), err = new PassThrough(), said = ['', ''];
	out.on('data', (b) => { said[0] += b; });
	err.on('data', (b) => { said[1] += b; });
	docker.modem.demuxStream(stream, out, err);
	stream.on('end', () => setImmediate(() => resolve(said)));
});
const follow = (stream) => new Promise((resolve, reject) =>
	docker.modem.followProgress(stream, (e, all) => (e ? reject(e) : resolve(all))));
const refused = async (promise, status) => {
	try { await promise; } catch (e) { assert.strictEqual(e.statusCode, status, e.message); return; }
	assert.fail(`no ${status}`);
};

const tour = {
	async system() {
		assert.strictEqual((await docker.ping()).toString(), 'OK');
		assert.strictEqual((await docker.version()).Os, 'linux');
		assert((await docker.info()).ID);
		assert(Array.isArray((await docker.df()).Images));
	},
	async images() {
		const said = await follow(await docker.loadImage(fs.createReadStream(busybox)));
		assert(said.some((x) => /Loaded image: busybox:latest/.test(x.stream)));
		await docker.getImage('busybox').tag({ repo: 'ode', tag: '1' });
		assert.strictEqual((await docker.listImages({ filters: { reference: ['ode'] } })).length, 1);
		assert.strictEqual((await docker.getImage('ode:1').inspect()).Os, 'linux');
		assert((await docker.getImage('ode:1').history()).length);
		assert((await text(await docker.getImage('ode:1').get())).length > 1000);
		await docker.getImage('ode:1').remove();
		await refused(docker.getImage('ode:1').inspect(), 404);
	},
	async run() {
		const out = new PassThrough();
		const said = text(out);
		const [result, container] = await docker.run('busybox', ['sh', '-c', 'echo run; exit 5'], out,
			{ HostConfig: HostConfig(), Tty: true });
		assert.strictEqual(result.StatusCode, 5);
		assert.strictEqual(await said, 'run\r\n');	// the stream of attach ends it
		await container.remove();
	},
	async life() {
		const c = await docker.createContainer({ Image: 'busybox', name: 'ode', Labels: { a: 'b' }, HostConfig: HostConfig(),
			Cmd: ['sh', '-c', 'trap "exit 4" TERM; echo out; echo err >&2; while :; do sleep 0.1; done'] });
		await refused(docker.createContainer({ Image: 'busybox', name: 'ode' }), 409);
		const attached = await c.attach({ stream: true, stdout: true, stderr: true });
		const heard = demux(attached);
		await c.start();
		await refused(c.start(), 304);
		const listed = await docker.listContainers({ filters: { label: ['a=b'] } });
		assert.deepStrictEqual(listed.map((x) => x.Names), [['/ode']]);
		assert.strictEqual((await c.inspect()).HostConfig.Isolation, isolation);
		assert((await c.top()).Processes.length);
		assert((await c.stats({ stream: false })).memory_stats);
		await c.pause();
		await c.unpause();
		await c.rename({ name: 'ode-2' });
		await c.update({ Memory: 64 << 20, MemorySwap: 128 << 20 });
		const waited = c.wait();
		await c.stop({ t: 30 });
		assert.strictEqual((await waited).StatusCode, 4);
		assert.deepStrictEqual(await heard, ['out\n', 'err\n']);
		assert.match((await c.logs({ stdout: true })).toString(), /out\n/);
		await c.remove();
		await refused(c.inspect(), 404);
	},
	async exec() {
		const c = await docker.createContainer({ Image: 'busybox', Cmd: ['sleep', '1000'], HostConfig: HostConfig() });
		await c.start();
		const exec = await c.exec({ Cmd: ['sh', '-c', 'cat; echo err >&2; exit 6'], AttachStdin: true, AttachStdout: true, AttachStderr: true });
		const stream = await exec.start({ hijack: true, stdin: true });
		const heard = demux(stream);
		stream.write('typed\n');
		stream.end();
		assert.deepStrictEqual(await heard, ['typed\n', 'err\n']);
		assert.strictEqual((await exec.inspect()).ExitCode, 6);
		const tar = await text(await c.getArchive({ path: '/etc/passwd' }));
		assert(tar.includes('root:'));
		await c.remove({ force: true });
	},
	async networks() {
		const n = await docker.createNetwork({ Name: 'ode-net' });
		const c = await docker.createContainer({ Image: 'busybox', Cmd: ['sleep', '1000'], HostConfig: HostConfig({ NetworkMode: 'bridge' }) });
		await n.connect({ Container: c.id });
		await c.start();
		assert.deepStrictEqual(Object.keys((await n.inspect()).Containers), [c.id]);
		await n.disconnect({ Container: c.id });
		assert((await docker.listNetworks({ filters: { name: ['ode-net'] } })).length);
		await c.remove({ force: true });
		await n.remove();
	},
	async volumes() {
		await docker.createVolume({ Name: 'ode-vol', Labels: { a: 'b' } });
		assert.strictEqual((await docker.listVolumes({ filters: { label: ['a=b'] } })).Volumes.length, 1);
		const v = docker.getVolume('ode-vol');
		assert((await v.inspect()).Mountpoint);
		await v.remove();
		assert('SpaceReclaimed' in await docker.pruneVolumes());
	},
	async events() {
		const stream = await docker.getEvents({ filters: { type: ['volume'] } });
		const seen = new Promise((resolve) => stream.once('data', (b) => resolve(JSON.parse(b))));
		await docker.createVolume({ Name: 'ode-event' });
		assert.strictEqual((await seen).Actor.ID, 'ode-event');
		stream.destroy();
		await docker.getVolume('ode-event').remove();
	},
};

(async () => {
	for (const [name, step] of Object.entries(tour)) {
		await step();
		console.log(`${name} ok`);
	}
	process.exit(0);
})().catch((e) => { console.error(e); process.exit(1); });
