BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE events (
	id INTEGER NOT NULL, 
	job VARCHAR(40) NOT NULL, 
	sequence INTEGER NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	at DOUBLE NOT NULL, 
	data JSON NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (job, sequence), 
	FOREIGN KEY(job) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES(1,'job_one',1,'state',3.5,'{"state": "queued"}');
INSERT INTO "events" VALUES(2,'job_one',2,'state',5.5,'{"state": "finished"}');
CREATE TABLE job_uploads (
	job VARCHAR(40) NOT NULL, 
	upload VARCHAR(40) NOT NULL, 
	PRIMARY KEY (job, upload), 
	FOREIGN KEY(job) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "job_uploads" VALUES('job_one','mdl_one');
INSERT INTO "job_uploads" VALUES('job_one','dat_one');
CREATE TABLE jobs (
	id VARCHAR(40) NOT NULL, 
	owner VARCHAR(40) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	idempotency_key VARCHAR(200), 
	request_digest VARCHAR(64) NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	request JSON NOT NULL, 
	config JSON NOT NULL, 
	priority INTEGER NOT NULL, 
	created DOUBLE NOT NULL, 
	started DOUBLE, 
	finished DOUBLE, 
	attempts INTEGER NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	runner VARCHAR(200), 
	lease_until DOUBLE, 
	events INTEGER NOT NULL, 
	progress JSON, 
	best_recipe VARCHAR(64), 
	verdict VARCHAR(40), 
	problem JSON, 
	manifest JSON, 
	PRIMARY KEY (id), 
	UNIQUE (owner, idempotency_key), 
	FOREIGN KEY(owner) REFERENCES keys (id)
);
INSERT INTO "jobs" VALUES('job_one','key_one','nightly','once','ef','finished','{"model": "mdl_one", "calibration": "dat_one", "validation": "dat_one", "latency_budget": "60%"}','{"model": "given/model/model.onnx", "latency_budget": "60%"}',3,3.5,4.5,5.5,1,0,NULL,NULL,2,'{"stage": "bundle"}','5e1f0c77','met',NULL,'{"product": "AutoSparse 0.1.0"}');
CREATE TABLE keys (
	id VARCHAR(40) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	digest BLOB NOT NULL, 
	scopes JSON NOT NULL, 
	created DOUBLE NOT NULL, 
	revoked DOUBLE, 
	PRIMARY KEY (id)
);
INSERT INTO "keys" VALUES('key_one','first',X'00FF','["admin", "read", "submit"]',1.5,NULL);
CREATE TABLE lanes (
	device VARCHAR(200) NOT NULL, 
	runner VARCHAR(200), 
	until DOUBLE NOT NULL, 
	note TEXT NOT NULL, 
	PRIMARY KEY (device)
);
INSERT INTO "lanes" VALUES('bench',NULL,0.0,'');
CREATE TABLE targets (
	id VARCHAR(40) NOT NULL, 
	owner VARCHAR(40) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	created DOUBLE NOT NULL, 
	document JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(owner) REFERENCES keys (id)
);
INSERT INTO "targets" VALUES('tgt_one','key_one','box',2.7,'{"name": "box"}');
CREATE TABLE trials (
	job VARCHAR(40) NOT NULL, 
	number INTEGER NOT NULL, 
	recipe VARCHAR(64) NOT NULL, 
	environment VARCHAR(64) NOT NULL, 
	record JSON NOT NULL, 
	PRIMARY KEY (job, number), 
	UNIQUE (job, recipe, environment), 
	FOREIGN KEY(job) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "trials" VALUES('job_one',1,'5e1f0c77','c592ff4182a4','{"schema_version": 1, "recipe": {"schema_version": 1, "model_sha256": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef", "levels": {"features.0": "dense:fp32", "features.3": "dense:int8+round_to_nearest", "encoder/layer_0: attention": "2:4:int8+wanda", "classifier": "unstructured@0.9:fp32+sparsegpt", "head#2": "block1x4@0.75:int8+magnitude"}, "knobs": {"graph_level": "extended", "activation_type": "uint8"}}, "evidence": {"recipe_id": "60a3ef089ad3", "latency_ratio": 0.58, "latency_ratio_high": 0.61, "drop": 0.005, "drop_high": 0.011, "divergence": 0.002, "compressed_layers": 4}, "quality": {"schema_version": 1, "metric": "top1", "rows": 512, "baseline_value": 0.91, "value": 0.905, "drop": 0.005, "drop_interval": {"low": -0.002, "high": 0.011}}, "latency_seconds": 0.0007, "baseline_seconds": 0.0012, "environment": "fb8aff7efbc0", "proposed_by": "evolution", "seconds_since_start": 12.5}');
CREATE TABLE uploads (
	id VARCHAR(40) NOT NULL, 
	owner VARCHAR(40) NOT NULL, 
	kind VARCHAR(10) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	created DOUBLE NOT NULL, 
	found JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(owner) REFERENCES keys (id)
);
INSERT INTO "uploads" VALUES('mdl_one','key_one','model','resnet.onnx','ab',123,2.5,'{"entry": "model.onnx", "inputs": [], "outputs": [], "layers": 7}');
INSERT INTO "uploads" VALUES('dat_one','key_one','dataset','rows.npz','cd',456,2.6,'{"arrays": []}');
CREATE INDEX uploads_by_owner ON uploads (owner, kind, created);
CREATE INDEX ix_uploads_sha256 ON uploads (sha256);
CREATE INDEX ix_targets_owner ON targets (owner);
CREATE INDEX jobs_by_owner ON jobs (owner, created);
CREATE INDEX jobs_to_do ON jobs (state, priority, created);
CREATE INDEX ix_job_uploads_upload ON job_uploads (upload);
COMMIT;
