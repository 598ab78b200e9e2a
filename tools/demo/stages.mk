# The stages of a run and what each waits for. tools/demo/run calls this file, two stages at a time, and is called by it for each stage.
# What is done is never done again, since all that comes before a stage only has to exist: an interrupted run goes on.
#
# RUN: what does a stage; DONE: the folder of finished stages; ARMS; RELABELLED: the arms that train on the captioner's captions;
# SNAPSHOTS: the updates at which an arm is judged; STYLES: the columns of the cross table, may be empty.
done = $(addprefix $(DONE)/,$(1))
curves = $(foreach arm,$(ARMS),$(call done,train_$(arm) $(SNAPSHOTS:%=judge_$(arm)-%)))
crosses = $(foreach style,$(STYLES),$(call done,cross_base_$(style) $(ARMS:%=cross_%_$(style))))

.PHONY: all
all: | $(curves) $(call done,judge_base) $(crosses)

$(DONE)/%:
	@$(RUN) $*

$(call done,codec captioner_base cross_prompts): | $(call done,corpus)
$(call done,detector diffusion_base): | $(call done,codec)
$(call done,captioner): | $(call done,captioner_base)
$(call done,relabel): | $(call done,captioner)
$(call done,$(ARMS:%=train_%)): | $(call done,diffusion_base)
$(call done,$(RELABELLED:%=train_%)): | $(call done,relabel)
$(call done,judge_base): | $(call done,diffusion_base detector)
$(crosses): | $(call done,cross_prompts diffusion_base detector)

define arm_is_judged
$(call done,$(SNAPSHOTS:%=judge_$(1)-%) $(STYLES:%=cross_$(1)_%)): | $(call done,train_$(1) detector)
endef
$(foreach arm,$(ARMS),$(eval $(call arm_is_judged,$(arm))))
